package ui

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
)

// maxMarks is how many combining marks a character keeps; more only serve to
// draw over what stands above and below.
const maxMarks = 2

// clean makes text harmless: line ends stay, everything else that is not a
// visible character becomes a question mark. No escape sequence, no change of
// direction and no half of a character gets through.
func clean(text []byte) string {
	var b strings.Builder
	marks := 0
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		text = text[n:]
		switch {
		case r == '\n':
			b.WriteByte('\n')
		case r == '\t':
			b.WriteString("    ")
		case r == utf8.RuneError && n == 1, !unicode.IsPrint(r):
			b.WriteByte('?')
		case unicode.Is(unicode.M, r):
			if marks++; marks <= maxMarks {
				b.WriteRune(r)
			}
			continue
		default:
			b.WriteRune(r)
		}
		marks = 0
	}
	return b.String()
}

// cleanLine is clean for text that stands on one line.
func cleanLine(text []byte) string { return strings.ReplaceAll(clean(text), "\n", " ") }

// cells is how many cells of a terminal a text takes, character by character.
// Terminals that join characters take fewer; none takes more.
func cells(text string) int {
	n := 0
	for _, r := range text {
		n += runewidth.RuneWidth(r)
	}
	return n
}

// wrap breaks text into lines of at most width cells, between words where it can.
func wrap(text string, width int) []string {
	if text == "" {
		return nil
	}
	var lines []string
	for _, line := range strings.Split(text, "\n") {
		for cells(line) > width {
			head := cut(line, width)
			if space := strings.LastIndexByte(head, ' '); space > 0 && line[len(head)] != ' ' {
				head = head[:space]
			}
			if head == "" { // a character that is wider than the line
				line = "?" + line[utf8.RuneLen([]rune(line)[0]):]
				continue
			}
			lines = append(lines, head)
			line = strings.TrimPrefix(line[len(head):], " ")
		}
		lines = append(lines, line)
	}
	return lines
}

// cut shortens a line to at most width cells.
func cut(line string, width int) string {
	n := 0
	for i, r := range line {
		if n += runewidth.RuneWidth(r); n > width {
			return line[:i]
		}
	}
	return line
}

// pad fills a line up to width cells.
func pad(line string, width int) string {
	line = cut(line, width)
	return line + strings.Repeat(" ", max(0, width-cells(line)))
}

// center puts a line into the middle of width cells.
func center(line string, width int) string {
	line = cut(line, width)
	left := (width - cells(line)) / 2
	return pad(strings.Repeat(" ", max(0, left))+line, width)
}

// short is a digest that fits a line: its first 16 digits.
func short(digest string) string {
	if len(digest) <= 20 {
		return digest
	}
	return digest[:16] + "..."
}
