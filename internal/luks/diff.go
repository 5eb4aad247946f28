package luks

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A Summary is a header as it was measured, to be kept and compared later.
type Summary struct{ facts facts }

// Summary is what Canonical writes down.
func (h *Header) Summary() Summary { return Summary{h.facts} }

// maxSummary bounds what ParseSummary takes. A header with 32 slots and tokens has 40 KiB.
const maxSummary = 16 << 20

// ParseSummary reads what Canonical wrote.
func ParseSummary(canonical []byte) (Summary, error) {
	head, body, _ := bytes.Cut(canonical, []byte("\n"))
	if string(head) != formatLine || len(canonical) > maxSummary {
		return Summary{}, fmt.Errorf("the stored description of the LUKS header does not begin with %q", formatLine)
	}
	f := facts{}
	for line := range bytes.Lines(body) {
		text := strings.TrimSuffix(string(line), "\n")
		name, value, ok := strings.Cut(text, " ")
		if !ok || name == "" || value == "" || !isPrintable(text) {
			return Summary{}, fmt.Errorf("the stored description of the LUKS header has a line %s", clip(string(line)))
		}
		f[name] = value
	}
	if !bytes.Equal(f.bytes(), canonical) {
		return Summary{}, fmt.Errorf("the stored description of the LUKS header is not as it was written")
	}
	return Summary{f}, nil
}

// maxSentences bounds what Diff says: a person reads some lines, and a stranger's header
// can differ in thousands.
const maxSentences = 40

// Diff says in words what differs: "key slot 1 was added (argon2id, ...)". It is empty where
// both are measured alike. Texts of the headers are quoted and short.
func Diff(before, after Summary) []string {
	a, b := group(before.facts), group(after.facts)
	names := slices.Collect(maps.Keys(a))
	for s := range b {
		if a[s] == nil {
			names = append(names, s)
		}
	}
	slices.SortStableFunc(names, func(x, y subject) int {
		return cmp.Or(cmp.Compare(rank(x), rank(y)), cmp.Compare(len(x.number), len(y.number)), cmp.Compare(x.number, y.number), cmp.Compare(x.section, y.section))
	})
	var list []string
	for _, s := range names {
		if sentence := s.compare(a[s], b[s]); sentence != "" {
			list = append(list, sentence)
		}
	}
	if len(list) == 0 && !maps.Equal(before.facts, after.facts) {
		return []string{"the headers differ in what has no words here"} // a forged Summary can bring that about
	}
	if len(list) > maxSentences {
		list = append(list[:maxSentences], fmt.Sprintf("and %d more", len(list)-maxSentences))
	}
	return list
}

// subject is what a sentence is about.
type subject struct{ section, number string }

// order is that of importance to an owner.
var order = []string{"version", "uuid", "label", "subsystem", "keyslots", "segments", "digests", "tokens", "config"}

func rank(s subject) int { return slices.Index(order, s.section) }

// group gathers the facts of each subject.
func group(f facts) map[subject]map[string]string {
	g := map[subject]map[string]string{}
	for name, value := range f {
		s := subject{section: name}
		attribute := ""
		if section, rest, ok := strings.Cut(name, "/"); ok {
			s.section, attribute = section, rest
			if section != "config" {
				s.number, attribute, _ = strings.Cut(rest, "/")
			}
		}
		if s.section == "material" {
			s.section, attribute = "keyslots", "material"
		}
		if g[s] == nil {
			g[s] = map[string]string{}
		}
		g[s][attribute] = value
	}
	return g
}

func (s subject) String() string {
	s.section, s.number = cut(s.section), cut(s.number)
	switch s.section {
	case "uuid":
		return "the volume's UUID"
	case "version":
		return "the LUKS version"
	case "keyslots":
		return "key slot " + s.number
	case "segments":
		return "data segment " + s.number
	case "digests":
		return "digest " + s.number + " of the volume key"
	case "tokens":
		return "token " + s.number
	case "config":
		return "the configuration"
	case "label", "subsystem":
		return "the " + s.section
	}
	return s.section
}

// labels are an owner's words for a header's.
var labels = map[string]string{
	"kdf/type": "PBKDF", "kdf/hash": "PBKDF's hash", "kdf/iterations": "iterations", "kdf/time": "passes", "kdf/memory": "memory in KiB", "kdf/cpus": "threads", "kdf/salt": "salt",
	"material": "key material", "key_size": "key size", "af/hash": "splitter's hash", "encryption": "cipher", "area/encryption": "cipher", "area/offset": "offset",
	"area/size": "size", "area/key_size": "key size of the cipher", "sector_size": "sector size", "digest": "value", "keyslots": "key slots",
}

// opaque are those whose values tell a person nothing.
var opaque = []string{"kdf/salt", "salt", "material", "digest"}

// compare says what became of a subject, or nothing where it is the same.
func (s subject) compare(before, after map[string]string) string {
	switch {
	case before == nil && s.section != "config":
		return fmt.Sprintf("%s was added%s", s, s.describe(after))
	case after == nil && s.section != "config":
		return fmt.Sprintf("%s was removed%s", s, s.describe(before))
	}
	union := maps.Clone(before)
	if union == nil {
		union = map[string]string{}
	}
	maps.Copy(union, after)
	var parts []string
	for _, name := range slices.SortedFunc(maps.Keys(union), byImportance) {
		x, y := before[name], after[name]
		switch {
		case x == y:
		case name == "":
			return fmt.Sprintf("%s changed: %s -> %s", s, shown(x), shown(y))
		case slices.Contains(opaque, name):
			parts = append(parts, "another "+label(name))
		default:
			parts = append(parts, fmt.Sprintf("%s %s -> %s", label(name), shown(x), shown(y)))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	const most = 8
	if len(parts) > most {
		parts = append(parts[:most], fmt.Sprintf("and %d more", len(parts)-most))
	}
	return fmt.Sprintf("%s: %s", s, strings.Join(parts, ", "))
}

// describe tells a slot, a token or a segment from others.
func (s subject) describe(f map[string]string) string {
	var parts []string
	for _, name := range []string{"type", "kdf/type", "kdf/iterations", "kdf/time", "kdf/memory", "encryption"} {
		if v, ok := f[name]; ok && !(name == "type" && s.section == "keyslots") {
			parts = append(parts, strings.TrimPrefix(label(name)+" ", "type ")+shown(v))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// byImportance puts how keys are derived before where they lie.
func byImportance(a, b string) int {
	first := []string{"kdf/type", "kdf/time", "kdf/iterations", "kdf/memory", "kdf/salt", "material", "encryption"}
	at := func(name string) int {
		if i := slices.Index(first, name); i >= 0 {
			return i
		}
		return len(first)
	}
	return cmp.Or(cmp.Compare(at(a), at(b)), cmp.Compare(a, b))
}

func label(name string) string {
	if l, ok := labels[name]; ok {
		return l
	}
	return cut(name)
}

// shown is a value for a person's eyes: simple words without quotes, and not too long.
func shown(value string) string {
	if value == "" {
		return "none"
	}
	if s, err := strconv.Unquote(value); err == nil && value[0] == '"' && component(s) == s {
		value = s
	}
	return cut(value)
}

// cut shortens what is printable ASCII already.
func cut(s string) string {
	if len(s) > maxShown {
		return s[:maxShown] + "..."
	}
	return s
}

func isPrintable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}
