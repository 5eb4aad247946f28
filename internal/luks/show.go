package luks

import (
	"strconv"
	"strings"
)

// maxShown is how much of somebody else's text goes into a sentence.
const maxShown = 48

// clip quotes a header's text for a person's eyes: printable ASCII, and not too long.
func clip(s string) string {
	if len(s) > maxShown {
		return strconv.QuoteToASCII(s[:maxShown]) + "..."
	}
	return strconv.QuoteToASCII(s)
}

func quoteAll(list []string) string {
	const most = 8
	var l []string
	for i, s := range list {
		if i == most {
			l = append(l, "and more")
			break
		}
		l = append(l, clip(s))
	}
	return strings.Join(l, ", ")
}
