package emulator

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// PID is the emulator's process, for who looks at it from outside.
func (e *Emulator) PID() int {
	if c, ok := e.process.(*child); ok {
		return c.cmd.Process.Pid
	}
	f, err := e.process.handle()
	if err != nil {
		return 0
	}
	defer f.Close()
	b, _ := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", f.Fd()))
	pid := 0
	for line := range strings.Lines(string(b)) {
		fmt.Sscanf(line, "Pid:\t%d", &pid)
	}
	return pid
}

// Gone is closed when all that was the process's is gone, too.
func (e *Emulator) Gone() <-chan struct{} { return e.gone }

// LastLineOf is what is kept of what an emulator says.
func LastLineOf(r io.Reader) string {
	var l lastLine
	l.ReadFrom(r)
	return l.line()
}
