package emulator

// PID is the emulator's process, for who looks at it from outside.
func (e *Emulator) PID() int { return e.process.Process.Pid }
