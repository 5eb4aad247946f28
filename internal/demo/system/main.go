// System plays the running system in the demo's guest, after the initramfs: it
// does what stands in a file on the system's disk, with the guest's terminal, and
// reports each exit code on the kernel's console, the serial line. Its arguments are the file for the
// first day, the file for all later days, and a file that the first day makes.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

func main() {
	todo := os.Args[1]
	if _, err := os.Stat(os.Args[3]); err == nil {
		todo = os.Args[2]
	}
	if err := run(todo); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run executes a file of command lines, whose words are separated by single spaces.
func run(todo string) error {
	f, err := os.Open(todo)
	if err != nil {
		return err
	}
	defer f.Close()
	serial, err := os.OpenFile("/dev/console", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer serial.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		args := strings.Split(lines.Text(), " ")
		fmt.Printf("# %s\n", lines.Text())
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return err
		}
		fmt.Fprintf(serial, "\nSYSTEM exit %d %s\n", cmd.ProcessState.ExitCode(), lines.Text())
	}
	return lines.Err()
}
