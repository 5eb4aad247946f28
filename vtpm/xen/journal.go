package xen

import (
	"log/slog"
	"time"
)

// journal logs what becomes of a device. Its guest may come and go, or do what it may not, a
// hundred times a second, and the log is everybody's: so many lines a minute are all that it gets.
type journal struct {
	log   *slog.Logger
	since time.Time
	lines int
}

const linesAMinute = 20

func (j *journal) info(what string, more ...any) {
	if j.room() {
		j.log.Info(what, more...)
	}
}

func (j *journal) error(what string, cause error) {
	if j.room() {
		j.log.Error(what, "because", cause)
	}
}

func (j *journal) room() bool {
	if now := time.Now(); now.Sub(j.since) >= time.Minute {
		j.since, j.lines = now, 0
	}
	j.lines++
	if j.lines == linesAMinute {
		j.log.Warn("no more is logged of this guest's vTPM for a minute")
	}
	return j.lines < linesAMinute
}
