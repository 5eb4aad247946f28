package doctor

import (
	"fmt"
	"io"
	"strings"
)

// Report is a table with what follows from it, as --json prints it.
type Report struct {
	Records []Record `json:"records"`
	Verdict Verdict  `json:"verdict"`          // about a launch
	SetUp   *Verdict `json:"set_up,omitempty"` // about setting AEM up, where the system was looked at
}

// marks are the states in four letters, so that a table without colours can be read.
var marks = map[State]string{
	Good: " ok ", Warning: "note", Bad: "BAD ", Unknown: " ?  ", NotApplicable: " -  ",
}

// Print writes the table for a person, in 80 columns: what needs attention first.
func (r *Report) Print(out io.Writer) error {
	var b strings.Builder
	for _, group := range []struct {
		title  string
		states []State
	}{
		{"Needs attention", []State{Bad, Warning}},
		{"Could not be read", []State{Unknown}},
		{"As it should be", []State{Good}},
	} {
		first := true
		for _, state := range group.states {
			for _, x := range r.Records {
				if x.State != state {
					continue
				}
				if first {
					fmt.Fprintf(&b, "%s\n", group.title)
					first = false
				}
				printRecord(&b, &x)
			}
		}
		if !first {
			fmt.Fprintln(&b)
		}
	}
	wrap(&b, "", r.Verdict.Text)
	if r.SetUp != nil {
		wrap(&b, "", r.SetUp.Text)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func printRecord(b *strings.Builder, x *Record) {
	required := ""
	if x.Required && x.State == Bad {
		required = " (required)"
	}
	wrap(b, "       ", fmt.Sprintf("[%s] %s%s: %s", marks[x.State], x.Name, required, x.Text))
	if x.State == Good || x.State == NotApplicable {
		return
	}
	if x.Advice != "" {
		wrap(b, "       ", "       What to do: "+x.Advice)
	}
	wrap(b, "       ", "       See: "+x.Chapter)
}

// width is what every terminal has.
const width = 80

// wrap writes a text in lines of at most 80 columns; all but the first are indented.
func wrap(b *strings.Builder, indent, text string) {
	line := ""
	lead := text[:len(text)-len(strings.TrimLeft(text, " "))]
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
			line = lead + word
		case len(line)+1+len(word) > width:
			b.WriteString(line + "\n")
			line = indent + word
		default:
			line += " " + word
		}
	}
	b.WriteString(line + "\n")
}
