package ui

import (
	"strings"
	"time"
	"unicode/utf8"
)

// sheet is a page on a full screen, with what was typed so far and how far it was
// scrolled. Drawing it is a pure function of these.
type sheet struct {
	page   *page
	typed  []byte
	note   string // why the last line was no answer
	scroll int
	answer Answer
	done   bool
}

// Sizes of a screen: what is drawn is never wider than 80 cells, and less than
// the smallest terminal gets is cut off.
const (
	maxWidth             = 80
	minWidth, minHeight  = 20, 10
	fallbackW, fallbackH = 80, 25
)

// draw lays the sheet out on a terminal of the given size. The last column stays
// free: some terminals scroll when it is written.
func (s *sheet) draw(width, height int, now time.Time) []string {
	width, height = max(min(width, maxWidth)-1, minWidth), max(height, minHeight)
	edge, side := "-", "|"
	if s.page.alarm {
		edge, side = "!", "!"
	}
	corner := "+"
	inner := width - 6
	rule := corner + strings.Repeat(edge, width-2) + corner
	line := func(text string) string { return side + "  " + pad(text, inner) + "  " + side }

	foot := s.foot(inner)
	room := height - len(foot) - 5 // rules, title and the empty line after it
	body := s.page.body(inner, now)
	// Scrolling ends where the last line is in sight.
	s.scroll = max(0, min(s.scroll, len(body)-room))
	more := len(body)-s.scroll > room
	body = body[s.scroll:]
	if more {
		body = append(body[:max(0, room-1):max(0, room-1)], center("(more: Page Down)", inner))
	}
	out := []string{rule, line(center(s.page.title, inner)), line("")}
	for i := range max(0, room) {
		text := ""
		if i < len(body) {
			text = body[i]
		}
		out = append(out, line(text))
	}
	out = append(out, rule)
	for _, f := range foot {
		out = append(out, line(f))
	}
	return append(out, rule)
}

// foot is how to answer, and what was typed.
func (s *sheet) foot(width int) []string {
	var out []string
	keys := strings.Join(s.page.keys, "   ")
	if len(keys) <= width {
		out = append(out, keys)
	} else {
		for _, k := range s.page.keys {
			out = append(out, wrap(k, width)...)
		}
	}
	out = append(out, wrap(s.note, width)...)
	prompt := s.page.prompt
	if prompt == "" {
		prompt = "> "
	}
	shown := clean(s.typed)
	if s.page.secret {
		shown = strings.Repeat("*", utf8.RuneCount(s.typed))
	}
	// The end of a long line stays in sight.
	if over := utf8.RuneCountInString(shown) - max(1, width-len(prompt)-1); over > 0 {
		shown = string([]rune(shown)[over:])
	}
	return append(out, prompt+shown+"_")
}

// key is what a sheet understands of a keyboard.
type key uint8

const (
	keyEnter key = iota + 1
	keyBackspace
	keyEscape
	keyUp
	keyDown
	keyPageUp
	keyPageDown
)

// press takes a key that is no text.
func (s *sheet) press(k key) {
	switch k {
	case keyEnter:
		s.answer, s.note, s.done = s.page.decide(s.typed)
		if !s.done {
			s.forget()
		}
	case keyBackspace:
		if _, n := utf8.DecodeLastRune(s.typed); n > 0 {
			clear(s.typed[len(s.typed)-n:])
			s.typed = s.typed[:len(s.typed)-n]
		}
	case keyEscape:
		s.forget()
		if s.page.prompt != "" {
			s.done = true // a question may stay unanswered; a decision may not
		}
	case keyUp:
		s.scroll--
	case keyDown:
		s.scroll++
	case keyPageUp:
		s.scroll -= 10
	case keyPageDown:
		s.scroll += 10
	}
}

// typeText takes text, as far as it fits.
func (s *sheet) typeText(text string) {
	if s.typed == nil {
		s.typed = make([]byte, 0, s.page.maxLen) // never grows, so no copy is left behind
	}
	for _, r := range text {
		if n := utf8.RuneLen(r); n > 0 && r >= ' ' && r != 0x7f && len(s.typed)+n <= s.page.maxLen {
			s.typed = utf8.AppendRune(s.typed, r)
		}
	}
}

// forget wipes what was typed.
func (s *sheet) forget() {
	clear(s.typed[:cap(s.typed)])
	s.typed = s.typed[:0]
}
