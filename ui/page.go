package ui

import (
	"fmt"
	"strings"
	"time"
)

// page is what every screen is made of, whether it is drawn or printed.
type page struct {
	title string
	alarm bool
	body  func(width int, now time.Time) []string
	// keys says how to answer, on the last lines.
	keys []string
	// prompt stands before what is being typed.
	prompt string
	secret bool // typed text is shown as asterisks
	maxLen int
	// live, if not nil, is the line of the body that changes with the time, and how long
	// it holds.
	live func(now time.Time) (line string, left time.Duration)
	// decide judges a line that was typed. Where it is no answer, again says why.
	decide func(line []byte) (a Answer, again string, done bool)
}

// section is a paragraph followed by an empty line.
func section(lines []string) []string {
	if len(lines) == 0 {
		return nil
	}
	return append(lines, "")
}

// box draws a frame around lines, with a margin inside it.
func box(lines []string, width int) []string {
	inner := width - 4
	edge := "+" + strings.Repeat("-", width-2) + "+"
	out := []string{edge, "| " + pad("", inner) + " |"}
	for _, l := range lines {
		out = append(out, "| "+center(l, inner)+" |")
	}
	return append(out, "| "+pad("", inner)+" |", edge, "")
}

// field is a labelled line whose text is wrapped beside the label.
func field(label, text string, width int) []string {
	const indent = 10
	if text == "" {
		return nil
	}
	var out []string
	for i, l := range wrap(clean([]byte(text)), max(1, width-indent)) {
		if i > 0 {
			label = ""
		}
		out = append(out, pad(label, indent)+l)
	}
	return out
}

// codeLine is a one-time code with the time that is left of it.
func codeLine(p *Proof, now time.Time) (string, time.Duration) {
	code, left, err := p.Code(now)
	if err != nil {
		return "There is no code now: " + err.Error(), left
	}
	unit := "seconds"
	seconds := int((left + time.Second - 1) / time.Second)
	if seconds == 1 {
		unit = "second"
	}
	return fmt.Sprintf("%s   valid for %d %s", code, seconds, unit), left
}

func proofPage(p *Proof) *page {
	pg := &page{
		title:  "IS THIS YOUR SECRET?",
		keys:   []string{"Enter: yes, this is my secret.", "no + Enter: this is not mine."},
		maxLen: 8,
	}
	rests := "Only your secret proves this machine."
	secret := func(time.Time) []byte { return p.Secret }
	if p.Code != nil {
		pg.title, pg.keys[0] = "IS THIS THE CODE ON YOUR PHONE?", "Enter: yes, my phone shows this code."
		pg.live = func(now time.Time) (string, time.Duration) { return codeLine(p, now) }
		rests = "Only a code that your phone shows at the same time proves this machine."
		secret = func(now time.Time) []byte {
			line, _ := pg.live(now)
			return []byte(line)
		}
	}
	pg.body = func(width int, now time.Time) []string {
		out := box(wrap(clean(secret(now)), max(1, width-4)), width)
		out = append(out, section(wrap(rests+" All that follows is a hint: a look-alike could print it, too.", width))...)
		out = append(out, field("Clock", p.Clock, width)...)
		out = append(out, field("Phone", p.Phone, width)...)
		out = append(out, field("Launch", p.Grade, width)...)
		out = append(out, field("Weaker", p.Weak, width)...)
		out = append(out, field("TPM", p.Identity, width)...)
		out = append(out, field("Medium", p.Medium, width)...)
		return append(out, field("Time", fmt.Sprintf("%s, the proof took %d ms", p.Time.UTC().Format("2006-01-02 15:04 MST"), p.Took.Milliseconds()), width)...)
	}
	pg.decide = func(line []byte) (Answer, string, bool) {
		switch strings.ToLower(string(line)) {
		case "":
			return Confirmed, "", true
		case "n", "no":
			return Rejected, "", true
		}
		return 0, "Press Enter alone, or type no and press Enter.", false
	}
	return pg
}

func refusalPage(r *Refusal) *page {
	return &page{
		title:  r.Title,
		alarm:  true,
		maxLen: 16,
		keys:   []string{"Enter: switch off.", UnprovenWord + " + Enter: boot on without proof."},
		body: func(width int, _ time.Time) []string {
			out := section(wrap("DO NOT TYPE YOUR PASSPHRASE NOW.", width))
			out = append(out, section(wrap(clean([]byte(r.Cause)), width))...)
			for _, c := range r.Changes {
				out = append(out, wrap("* "+clean([]byte(c.What)), width)...)
				out = append(out, wrap(changeText(c), width)...)
			}
			if len(r.Changes) > 0 {
				out = append(out, "")
			}
			out = append(out, section(wrap(clean([]byte(r.Hint)), width))...)
			if r.Detail != "" {
				out = append(out, section(field("Detail", r.Detail, width))...)
			}
			return append(out, wrap(fmt.Sprintf("What a changed machine says of itself is a hint, no proof. Code %d.", r.Code), width)...)
		},
		decide: func(line []byte) (Answer, string, bool) {
			switch string(line) {
			case "":
				return PowerOff, "", true
			case UnprovenWord:
				return ContinueUnproven, "", true
			}
			return 0, "Press Enter alone, or type the whole word " + UnprovenWord + ".", false
		},
	}
}

// changeText puts both digests on a line.
func changeText(c ChangeView) string {
	before, after := short(clean([]byte(c.Before))), short(clean([]byte(c.After)))
	switch {
	case c.Before == "":
		return "  not approved; now " + after
	case c.After == "":
		return "  approved " + before + "; now missing"
	}
	return "  approved " + before + "  now " + after
}

func noticePage(n *Notice) *page {
	return &page{
		title:  n.Title,
		maxLen: 1,
		keys:   []string{"Enter: go on."},
		body: func(width int, _ time.Time) []string {
			return append(section(wrap(clean([]byte(n.Text)), width)), wrap(clean([]byte(n.Hint)), width)...)
		},
		decide: func([]byte) (Answer, string, bool) { return 0, "", true },
	}
}

func questionPage(q *Question) *page {
	maxLen := q.MaxLen
	if maxLen == 0 {
		maxLen = 256
	}
	return &page{
		title:  q.Title,
		secret: q.Secret,
		maxLen: maxLen,
		prompt: cleanLine([]byte(q.Prompt)),
		keys:   []string{"Enter: done.", "Esc: give no answer."},
		body: func(width int, _ time.Time) []string {
			return append(section(wrap(clean([]byte(q.Error)), width)), wrap(clean([]byte(q.Hint)), width)...)
		},
		decide: func([]byte) (Answer, string, bool) { return 0, "", true },
	}
}
