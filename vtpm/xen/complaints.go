package xen

import (
	"log/slog"
	"time"
)

// complaints logs what a guest or its vTPM does wrong. A guest may do so a thousand times a second,
// and the log is everybody's: so many lines a minute are all that one device gets.
type complaints struct {
	since time.Time
	lines int
}

const linesAMinute = 10

func (c *complaints) log(log *slog.Logger, what string, cause error) {
	if now := time.Now(); now.Sub(c.since) >= time.Minute {
		c.since, c.lines = now, 0
	}
	c.lines++
	switch {
	case c.lines < linesAMinute:
		log.Error(what, "because", cause)
	case c.lines == linesAMinute:
		log.Error(what, "because", cause, "and", "no more of this guest for a minute")
	}
}
