package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/xenstore"
)

// question and reply are where dom0 and a guest speak to each other, relative to the guest's own
// directory. Each begins with a number, so that an old reply is not taken for a new one.
const (
	question = "data/question"
	reply    = "data/reply"
)

// ask asks a guest and prints its answer. What it is to seal comes on the standard input: orders are printed.
func ask(args []string) error {
	words := strings.Join(args[1:], " ")
	if words == "seal" {
		text, err := io.ReadAll(os.Stdin)
		if err != nil {
			return err
		}
		words += " " + string(text)
	}
	id, err := exec.Command("xl", "domid", args[0]).Output()
	if err != nil {
		return fmt.Errorf("xl domid %s: %w", args[0], err)
	}
	c, err := xenstore.Dial()
	if err != nil {
		return err
	}
	home := "/local/domain/" + strings.TrimSpace(string(id)) + "/"
	number := fmt.Sprint(time.Now().UnixNano()) + " "
	if err := c.Write(home+question, number+words); err != nil {
		return err
	}
	var answer string
	if err := wait(3*time.Minute, func() bool {
		var ok bool
		v, _ := c.Read(home + reply)
		answer, ok = strings.CutPrefix(v, number)
		return ok
	}); err != nil {
		return fmt.Errorf("%s does not answer: %w", args[0], err)
	}
	// What was said here is no part of what the story looks for in xenstore.
	if err := errors.Join(c.Write(home+question, ""), c.Write(home+reply, "")); err != nil {
		return err
	}
	if said, bad := strings.CutPrefix(answer, "error "); bad {
		return errors.New(said)
	}
	fmt.Println(answer)
	return nil
}

// answer answers what dom0 asks, for good.
func answer([]string) error {
	c, err := xenstore.DialPath(xenstore.Device)
	if err != nil {
		return err
	}
	changed := make(chan struct{}, 1)
	if _, err := c.Watch(question, func(string) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}); err != nil {
		return err
	}
	last := ""
	for range changed {
		asked, _ := c.Read(question)
		number, words, ok := strings.Cut(asked, " ")
		if !ok || asked == last {
			continue
		}
		last = asked
		verb, _, _ := strings.Cut(words, " ")
		said, err := use(strings.Fields(words))
		if err != nil {
			said = "error " + err.Error()
		}
		if verb == "open" && err == nil {
			fmt.Println("open: it is open") // a console is no place for it
		} else {
			fmt.Printf("%s: %s\n", verb, said)
		}
		if err := c.Write(reply, number+" "+said); err != nil {
			return err
		}
	}
	return nil
}

// openTheTPM opens the one that the guest has. Its number grows when the guest is resumed: Linux's frontend makes a new
// device then, and gives up the old one's number no sooner than its own.
func openTheTPM() (*chip, error) {
	var found []string
	if err := wait(30*time.Second, func() bool {
		found, _ = filepath.Glob("/dev/tpm[0-9]*")
		return len(found) == 1
	}); err != nil {
		return nil, fmt.Errorf("the guest's TPM: %q: %w", found, err)
	}
	return openTPM(found[0])
}

// openTPM waits for a device and opens it.
func openTPM(path string) (*chip, error) {
	if err := wait(30*time.Second, func() bool { _, err := os.Stat(path); return err == nil }); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	// Not through package os, which would make the device one that does not wait for its answer.
	fd, err := unix.Open(path, unix.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &chip{fd}, nil
}

// chip is a TPM behind a device of the kernel's.
type chip struct{ fd int }

// Send sends a command and waits for the response.
func (c *chip) Send(command []byte) ([]byte, error) {
	if _, err := unix.Write(c.fd, command); err != nil {
		return nil, fmt.Errorf("send to the TPM: %w", err)
	}
	b := make([]byte, 4096)
	n, err := unix.Read(c.fd, b)
	if err != nil {
		return nil, fmt.Errorf("read from the TPM: %w", err)
	}
	return b[:n], nil
}

// Close gives the device back.
func (c *chip) Close() error { return unix.Close(c.fd) }

// reborn waits until a guest has another number than it had.
func reborn(args []string) error {
	return wait(2*time.Minute, func() bool {
		id, err := exec.Command("xl", "domid", args[0]).Output()
		return err == nil && strings.TrimSpace(string(id)) != args[1]
	})
}
