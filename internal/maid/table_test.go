package maid_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/antievilmaid/aem/tpm"
)

// cell is what happened to one kind of machine in one line.
type cell struct {
	outcome
	judge
	ran, failed bool
}

// results are the table's lines in the order in which they were begun.
type results struct {
	mu    sync.Mutex
	names []string
	cells map[string]map[kind]*cell
}

var table = results{cells: map[string]map[kind]*cell{}}

func (r *results) cell(name string, k kind) *cell {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cells[name] == nil {
		r.names = append(r.names, name)
		r.cells[name] = map[kind]*cell{}
	}
	c := &cell{}
	r.cells[name][k] = c
	return c
}

// verdict is what stands in a line for a family.
func (r *results) verdict(name string, v tpm.Version) string {
	said := ""
	for _, k := range kinds {
		c := r.cells[name][k]
		text := ""
		switch {
		case k.family != v:
			continue
		case !c.ran:
			text = "not run"
		case c.failed:
			text = "FAILED"
		case c.Secret == sentence:
			text = "proof"
		case c.Secret != "":
			text = "hers"
		default:
			text = string(c.judge)
		}
		if said != "" && said != text {
			return said + "/" + text
		}
		said = text
	}
	return said
}

// named is which cause the owner read.
func (r *results) named(name string) string {
	var list []string
	for _, k := range kinds {
		c := r.cells[name][k]
		if c.Cause == "" {
			continue
		}
		text := string(c.Cause)
		for i, what := range c.Names {
			// The owner reads which disk; here there is no room for a UUID.
			what, _, _ = strings.Cut(what, " "+uuids[0])
			what, _, _ = strings.Cut(what, " "+uuids[1])
			text += map[bool]string{true: ": ", false: ", "}[i == 0] + what
		}
		if len(list) == 0 || list[len(list)-1] != text {
			list = append(list, text)
		}
	}
	return strings.Join(list, " / ")
}

// text is the table, as a text file and as Markdown.
func (r *results) text() string {
	lines := [][]string{{"what she changes", "TPM 2.0", "TPM 1.2", "what the owner reads"}}
	for _, name := range r.names {
		lines = append(lines, []string{name, r.verdict(name, tpm.V20), r.verdict(name, tpm.V12), r.named(name)})
	}
	width := make([]int, len(lines[0]))
	for _, l := range lines {
		for i, text := range l {
			width[i] = max(width[i], len(text))
		}
	}
	var b strings.Builder
	for n, l := range lines {
		for i, text := range l {
			fmt.Fprintf(&b, "| %-*s ", width[i], text)
		}
		b.WriteString("|\n")
		if n == 0 {
			for i := range l {
				b.WriteString("| " + strings.Repeat("-", width[i]) + " ")
			}
			b.WriteString("|\n")
		}
	}
	return b.String()
}

// legend says what the words in the table stand for. It claims nothing of a run that failed.
func (r *results) legend() string {
	if !r.whole() {
		return "This table is not whole: a line failed or was not run.\n"
	}
	return `TPM: refused, and with the program's own checks left out the TPM refuses too.
program: the measured program alone refuses. no record: there was none to open.
After each line her deed was undone, and the machine proved itself to its owner
as before; what can't be undone the owner mended by sealing again, or by setting
up anew. No line cost a try at a PIN.
`
}

// whole reports whether every line was played, and none failed.
func (r *results) whole() bool {
	for _, cells := range r.cells {
		for _, c := range cells {
			if !c.ran || c.failed {
				return false
			}
		}
	}
	return len(r.cells) > 0
}

// document is where the table stands for readers.
const document = "../../docs/threat-model.md"

// publish writes the table into a file of a folder that may not be there yet, and looks
// whether the document shows the same one.
func (r *results) publish(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(r.text()+"\n"+r.legend()), 0o644); err != nil {
		return err
	}
	b, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	if r.whole() && !bytes.Contains(b, []byte(r.text())) {
		return fmt.Errorf("%s shows another one; put that of %s there", document, path)
	}
	return nil
}
