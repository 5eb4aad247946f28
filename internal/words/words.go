// Package words tells which words of a command line changed. A person who compares
// two lines of two hundred characters misses the one that matters.
package words

import "strings"

// Change is a word, or several in a row, that differ.
type Change struct {
	Before []string `json:"before,omitempty"` // empty where words were added
	After  []string `json:"after,omitempty"`  // empty where words were removed
}

// maxWords bounds the table: a kernel takes 4096 bytes of command line.
const maxWords = 4096

// Diff lists what changed from one line to another, in order. Words are what spaces
// separate outside of double quotes.
func Diff(before, after string) []Change {
	a, b := Split(before), Split(after)
	if len(a) > maxWords || len(b) > maxWords {
		return []Change{{a, b}}
	}
	// best[i][j] is the length of the longest common subsequence of a[i:] and b[j:].
	best := make([][]int, len(a)+1)
	for i := range best {
		best[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				best[i][j] = best[i+1][j+1] + 1
			} else {
				best[i][j] = max(best[i+1][j], best[i][j+1])
			}
		}
	}
	var list []Change
	var c Change
	end := func() {
		if len(c.Before)+len(c.After) > 0 {
			list = append(list, c)
			c = Change{}
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			end()
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && best[i+1][j] >= best[i][j+1]:
			c.Before = append(c.Before, a[i])
			i++
		default:
			c.After = append(c.After, b[j])
			j++
		}
	}
	end()
	return list
}

// Split cuts a line into words, as the kernel does.
func Split(line string) []string {
	var list []string
	var word strings.Builder
	quoted, started := false, false
	for _, r := range line {
		switch {
		case r == '"':
			quoted, started = !quoted, true
			word.WriteRune(r)
		case !quoted && (r == ' ' || r == '\t' || r == '\n' || r == '\r'):
			if started {
				list = append(list, word.String())
				word.Reset()
				started = false
			}
		default:
			started = true
			word.WriteRune(r)
		}
	}
	if started {
		list = append(list, word.String())
	}
	return list
}
