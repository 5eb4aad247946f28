package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/guestinit/script"
)

// console is the terminal of the steps that ask for one.
type console struct {
	name string // below /dev
	size unix.Winsize
}

func parseConsole(cmdline string) console {
	c := console{"ttyS0", unix.Winsize{Row: 24, Col: 80}}
	for arg := range strings.FieldsSeq(cmdline) {
		switch name, value, _ := strings.Cut(arg, "="); name {
		case "guest.console":
			c.name = value
		case "guest.size":
			fmt.Sscanf(value, "%dx%d", &c.size.Row, &c.size.Col)
		}
	}
	return c
}

// run runs a program and reports its exit code: 128 and the signal's number
// where a signal ended it, 127 where it could not start.
func run(s script.Step, con console) {
	what := strings.Join(s.Run, " ")
	report("%s %s", script.Started, what)
	code, err := execute(s, con)
	if err != nil {
		fmt.Println(err)
	}
	report("%s %d %s", script.Exited, code, what)
}

func execute(s script.Step, con console) (code int, err error) {
	cmd := exec.Command(s.Run[0], s.Run[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	term := "dumb"
	if s.TTY {
		tty, err := con.open()
		if err != nil {
			return 127, err
		}
		defer tty.Close()
		cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
		term = con.term()
	}
	cmd.Env = append([]string{"PATH=/bin:/sbin:/usr/bin:/usr/sbin", "HOME=/", "TERM=" + term}, s.Env...)
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case !errors.As(err, &exit):
		return 127, err
	}
	if w, ok := exit.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal()), nil
	}
	return exit.ExitCode(), nil
}

func (c console) term() string {
	if strings.HasPrefix(c.name, "ttyS") {
		return "vt220"
	}
	return "linux"
}

// open opens the terminal without making it guestinit's own.
func (c console) open() (*os.File, error) {
	tty, err := os.OpenFile("/dev/"+c.name, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("open the guest's console: %w", err)
	}
	// A serial line says 0x0, and a full-screen program then draws nothing.
	if strings.HasPrefix(c.name, "ttyS") {
		if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &c.size); err != nil {
			tty.Close()
			return nil, fmt.Errorf("set the size of the guest's console: %w", err)
		}
	}
	return tty, nil
}
