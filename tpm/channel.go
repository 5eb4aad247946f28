package tpm

import "fmt"

// Version is the family of a TPM. The two share no command.
type Version uint8

// The families. The zero Version is "not known".
const (
	V12 Version = 12
	V20 Version = 20
)

// String is "TPM 1.2" or "TPM 2.0".
func (v Version) String() string {
	switch v {
	case V12:
		return "TPM 1.2"
	case V20:
		return "TPM 2.0"
	}
	return fmt.Sprintf("unknown TPM family %d", uint8(v))
}

// Locality is the level of privilege at which a command reaches the TPM: 0 for
// the operating system, 1 to 3 for what a dynamic launch started, 4 for the CPU
// alone (TPM Library, Part 1, clause 17; TIS, clause 5).
type Locality uint8

// Channel sends one command and returns its whole response. It has the method
// set of go-tpm's transport.TPM, so that either may stand for the other.
type Channel interface {
	Send(cmd []byte) (rsp []byte, err error)
}

// LocalityChannel is a Channel that can choose the locality of the commands
// that follow.
type LocalityChannel interface {
	Channel
	SetLocality(Locality) error
}

// Counter counts the commands that pass through a Channel: a boot is judged by
// it, because each command costs a slow chip tens of milliseconds.
type Counter struct {
	Channel
	Commands int
}

// Send passes the command on and counts it.
func (c *Counter) Send(cmd []byte) ([]byte, error) {
	c.Commands++
	return c.Channel.Send(cmd)
}
