package emulator

import "io"

// PID is the emulator's process, for who looks at it from outside.
func (e *Emulator) PID() int { return e.process.Process.Pid }

// LastLineOf is what is kept of what an emulator says.
func LastLineOf(r io.Reader) string {
	var l lastLine
	l.ReadFrom(r)
	return l.line()
}
