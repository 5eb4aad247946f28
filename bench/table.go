package bench

import (
	"fmt"
	"strings"
)

// Table is all rules as a table in Markdown, for people who want to know who is
// right before they look at code.
func Table() string {
	var b strings.Builder
	b.WriteString("| the log has | who differs | who is right | why | source |\n| --- | --- | --- | --- | --- |\n")
	for i := range Rules {
		r := &Rules[i]
		readers := strings.Join(r.Readers, ", ")
		if len(r.Readers) == len(everyone) {
			readers = "all three"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", r.Name, readers, r.Right, r.Why, r.Source)
	}
	return b.String()
}
