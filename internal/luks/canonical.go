package luks

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// formatLine begins every measurement. Another set of fields, or another way to write
// them, is another format.
const formatLine = "aem-luks 1"

// facts is a header in words: names such as keyslots/0/kdf/type, and values.
type facts map[string]string

// tuning are the flags that cryptsetup keeps with --persistent and that decide nothing but
// how fast a volume is. All others count, the unknown ones too.
var tuning = []string{"same-cpu-crypt", "submit-from-crypt-cpus", "no-read-workqueue", "no-write-workqueue", "high_priority"}

// sections are what a LUKS2 header's JSON consists of (LUKS2, section 3.1).
var sections = []string{"keyslots", "tokens", "segments", "digests", "config"}

// sets are the lists whose order says nothing.
var sets = []string{"digests/*/keyslots", "digests/*/segments", "tokens/*/keyslots", "segments/*/flags", "config/flags"}

// idle are those that say the same when they are empty as when they are absent.
// cryptsetup leaves either behind when it takes the last member out.
var idle = []string{"tokens", "keyslots", "config/flags", "segments/*/flags", "config/requirements", "config/requirements/mandatory"}

// Canonical writes down everything that counts, as docs/formats/luks-measurement.md says:
// printable ASCII, one fact on each line, sorted. It holds no secret that the header does
// not show to everybody who has the disk, and not the key material but its hash.
func (h *Header) Canonical() []byte { return h.facts.bytes() }

func (f facts) bytes() []byte {
	var b bytes.Buffer
	b.WriteString(formatLine + "\n")
	for _, name := range slices.Sorted(maps.Keys(f)) {
		fmt.Fprintf(&b, "%s %s\n", name, f[name])
	}
	return b.Bytes()
}

func (h *Header) collect(metadata object) facts {
	f := facts{}
	f["version"] = strconv.Itoa(h.Version)
	f["uuid"] = strconv.QuoteToASCII(h.UUID)
	if h.Version == 2 {
		f["label"] = strconv.QuoteToASCII(h.Label)
		f["subsystem"] = strconv.QuoteToASCII(h.Subsystem)
	}
	for _, name := range sections {
		f.add(name, metadata[name])
	}
	for _, s := range h.KeySlots {
		f[fmt.Sprintf("material/%d", s.Number)] = hex.EncodeToString(s.Material[:])
	}
	return f
}

// add writes a value, the members of an object each on a line of its own.
func (f facts) add(name string, v any) {
	switch l := v.(type) {
	case object:
		for member, v := range l {
			f.add(name+"/"+component(member), v)
		}
		if len(l) > 0 {
			return
		}
	case []any:
		if name == "config/flags" {
			l = slices.DeleteFunc(slices.Clone(l), func(e any) bool { s, ok := e.(string); return ok && slices.Contains(tuning, s) })
		}
		if matches(sets, name) {
			l = set(l)
		}
		v = l
	}
	if text := literal(v); text != "[]" && text != "{}" || !matches(idle, name) {
		f[name] = text
	}
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, name) // the patterns are ours, and in order
		return ok
	})
}

// set sorts a list and takes out what stands in it twice.
func set(l []any) []any {
	byText := func(a, b any) int { return cmp.Compare(literal(a), literal(b)) }
	return slices.CompactFunc(slices.SortedStableFunc(slices.Values(l), byText), func(a, b any) bool { return byText(a, b) == 0 })
}

// component is a member's name. One that could be taken for something else is quoted.
func component(name string) string {
	plain := name != ""
	for _, c := range []byte(name) {
		plain = plain && (c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '-' || c == '.')
	}
	if plain {
		return name
	}
	return strings.NewReplacer("/", `\x2f`, " ", `\x20`).Replace(strconv.QuoteToASCII(name))
}

// literal writes a value. Texts are quoted as in Go, in ASCII.
func literal(v any) string {
	switch v := v.(type) {
	case string:
		return strconv.QuoteToASCII(v)
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	case []any:
		var l []string
		for _, e := range v {
			l = append(l, literal(e))
		}
		return "[" + strings.Join(l, ",") + "]"
	case object:
		var l []string
		for _, name := range slices.Sorted(maps.Keys(v)) {
			l = append(l, strconv.QuoteToASCII(name)+":"+literal(v[name]))
		}
		return "{" + strings.Join(l, ",") + "}"
	}
	return "null"
}
