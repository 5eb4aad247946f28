// Package script is what a test guest is told to do: a file of JSON lines that
// the test bed writes and guestinit reads, and the lines by which guestinit
// reports on the serial console.
package script

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
)

// Path is where the script lies in the guest's initramfs.
const Path = "guest/script"

// The first words of a line in which guestinit reports. What follows: the
// command; its exit code and the command; how the guest ends; the reason.
const (
	Started = "GUEST start"
	Exited  = "GUEST exit"
	Ending  = "GUEST end"
	Broken  = "GUEST broken:"
)

// Step is one thing to do. Exactly one of its first four fields is set.
type Step struct {
	// Run is a program and its arguments.
	Run []string `json:"run,omitempty"`
	// Cat is a file to write to the serial line.
	Cat string `json:"cat,omitempty"`
	// Mount is a block device, a directory (made as needed), a file system's
	// type and, if there is a fourth, "ro". The device is waited for.
	Mount []string `json:"mount,omitempty"`
	// End ends the guest here: "poweroff", which is also what happens after the
	// last step, or "reset".
	End string `json:"end,omitempty"`

	// TTY runs the program in a session of its own, with the guest's console as
	// its controlling terminal. Otherwise its output goes to the serial line and
	// its input is empty.
	TTY bool `json:"tty,omitempty"`
	// Env is added to the program's environment, as NAME=VALUE.
	Env []string `json:"env,omitempty"`
}

// Marshal writes steps as the lines that Parse reads.
func Marshal(steps []Step) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	for _, s := range steps {
		if err := e.Encode(s); err != nil {
			return nil, fmt.Errorf("write the guest's script: %w", err)
		}
	}
	return b.Bytes(), nil
}

// Parse reads a script. A field that it does not know is an error: a misspelt
// step must not pass for one that does nothing.
func Parse(text []byte) ([]Step, error) {
	var steps []Step
	s := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; s.Scan(); n++ {
		var step Step
		d := json.NewDecoder(bytes.NewReader(s.Bytes()))
		d.DisallowUnknownFields()
		if err := d.Decode(&step); err != nil {
			return nil, fmt.Errorf("line %d of the guest's script: %w", n, err)
		}
		set := 0
		for _, is := range []bool{len(step.Run) > 0, step.Cat != "", len(step.Mount) > 0, step.End != ""} {
			if is {
				set++
			}
		}
		if set != 1 {
			return nil, fmt.Errorf("line %d of the guest's script: a step is one of run, cat, mount and end", n)
		}
		steps = append(steps, step)
	}
	return steps, s.Err()
}
