// Guestinit is the first process of a test guest. It makes the machine usable,
// does the steps of a script, reports each on the serial line and ends the
// machine. There is no shell and no other program in a guest than those that a
// test puts there, so that what a test sees is the program's own doing.
//
// Kernel command line: guest.console=tty1 or ttyS0 (the default) is the
// terminal of the steps that ask for one; guest.size=ROWSxCOLUMNS sets the size
// of a serial terminal, which nobody else knows (default 24x80).
package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/firstprocess"
	"github.com/antievilmaid/aem/internal/guestinit/script"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guestinit is the first process of a test guest and does nothing elsewhere")
		os.Exit(2)
	}
	end, err := live()
	if err != nil {
		report("%s %v", script.Broken, err)
		end = "poweroff"
	}
	report("%s %s", script.Ending, end)
	leave(end)
}

// live does the guest's work and says how it should end.
func live() (end string, err error) {
	if err := firstprocess.MountSystem(); err != nil {
		return "", err
	}
	if err := firstprocess.LoadModules(); err != nil {
		return "", err
	}
	args, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return "", err
	}
	con := parseConsole(string(args))
	text, err := os.ReadFile("/" + script.Path)
	if err != nil {
		return "", err
	}
	steps, err := script.Parse(text)
	if err != nil {
		return "", err
	}
	for _, s := range steps {
		switch {
		case len(s.Run) > 0:
			run(s, con)
		case s.Cat != "":
			done("cat "+s.Cat, cat(s.Cat))
		case len(s.Mount) > 0:
			done("mount "+strings.Join(s.Mount, " "), mountDisk(s.Mount))
		default:
			return s.End, nil
		}
	}
	return "poweroff", nil
}

// report writes a line of its own to the serial console, even where a program
// left its last line unfinished.
func report(format string, args ...any) {
	fmt.Printf("\n"+format+"\n", args...)
}

// done reports a step that is not a program as if it were one.
func done(what string, err error) {
	code := 0
	if err != nil {
		code = 1
		fmt.Println(err)
	}
	report("%s %d %s", script.Exited, code, what)
}

func cat(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(os.Stdout, f)
	return err
}

// leave ends the machine with the disks in order.
func leave(end string) {
	unmountDisks()
	unix.Sync()
	how := unix.LINUX_REBOOT_CMD_POWER_OFF
	if end == "reset" {
		how = unix.LINUX_REBOOT_CMD_RESTART
	}
	// What was printed must have left the serial port before the machine goes.
	unix.IoctlSetInt(1, unix.TCSBRK, 1)
	err := unix.Reboot(how)
	report("%s %v", script.Broken, err)
}
