package bootentry

import (
	"errors"
	"fmt"
)

// ErrUnsupported is wrapped by every refusal: what GRUB would do with the
// configuration can't be told from here, so there is no prediction.
var ErrUnsupported = errors.New("what GRUB does here can't be predicted")

// ErrNoEntry is wrapped where the menu has no entry of the wanted name.
var ErrNoEntry = errors.New("the menu has no such entry")

// ErrTooLarge is wrapped where a configuration or a file exceeds a limit.
var ErrTooLarge = errors.New("too large")

// An Error names the place in the configuration at which a prediction ends.
type Error struct {
	File    string // the configuration as GRUB names it, without the device
	Line    int    // counted from 1; 0 where no line is to blame
	Command string // the command's name; empty for a fault of syntax
	Reason  string
	Err     error // ErrUnsupported, ErrTooLarge or fs.ErrNotExist
}

func (e *Error) Error() string {
	s := e.File
	if e.Line > 0 {
		s = fmt.Sprintf("%s:%d", e.File, e.Line)
	}
	if e.Command != "" {
		s += fmt.Sprintf(": %.40q", e.Command)
	}
	return s + ": " + e.Reason
}

func (e *Error) Unwrap() error { return e.Err }

// place is where in a configuration something stands.
type place struct {
	file string
	line int
}

func (p place) refuse(command, format string, args ...any) error {
	return &Error{File: p.file, Line: p.line, Command: command, Reason: fmt.Sprintf(format, args...), Err: ErrUnsupported}
}

func (p place) tooLarge(format string, args ...any) error {
	return &Error{File: p.file, Line: p.line, Reason: fmt.Sprintf(format, args...), Err: ErrTooLarge}
}
