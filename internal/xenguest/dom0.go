package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/xenstore"
)

// startDom0 mounts what Xen's tools need and starts them.
func startDom0([]string) error {
	for _, dir := range []string{"/dev/pts", "/run/xen", "/run/xenstored", "/run/lock", "/run/vtpm"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for _, m := range [][2]string{{"devpts", "/dev/pts"}, {"xenfs", "/proc/xen"}} {
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m[0], err)
		}
	}
	if err := command("xenstored", "--pid-file", "/run/xenstored.pid").Run(); err != nil {
		return fmt.Errorf("xenstored: %w", err)
	}
	// Its socket appears a moment after it has gone into the background.
	if err := wait(time.Minute, func() bool {
		c, err := xenstore.DialPath(xenstore.Socket)
		if err == nil {
			c.Close()
		}
		return err == nil
	}); err != nil {
		return fmt.Errorf("xenstored: %w", err)
	}
	for _, c := range []*exec.Cmd{
		command("xen-init-dom0"),
		command("xenconsoled", "--log=all", "--log-dir=/var/log/xen/console", "--pid-file=/run/xenconsoled.pid"),
	} {
		if err := c.Run(); err != nil {
			return fmt.Errorf("%s: %w", c.Path, err)
		}
	}
	return nil
}

func command(name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.Stdout, c.Stderr = os.Stdout, os.Stdout
	return c
}

var errPatience = errors.New("it took too long")

func wait(patience time.Duration, done func() bool) error {
	for end := time.Now().Add(patience); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			return errPatience
		}
	}
	return nil
}

func pidFile(name string) string { return "/run/" + name + ".pid" }

// startProgram starts a program that prints to the machine's console from now on.
func startProgram(args []string) error {
	console, err := os.OpenFile("/dev/console", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer console.Close()
	c := exec.Command(args[1], args[2:]...)
	c.Stdout, c.Stderr = console, console // what this program has is closed when it ends
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return err
	}
	return os.WriteFile(pidFile(args[0]), strconv.AppendInt(nil, int64(c.Process.Pid), 10), 0o644)
}

// endBy ends a program that was started here, with a signal, and waits until it is gone.
func endBy(signal unix.Signal) func([]string) error {
	return func(args []string) error {
		b, err := os.ReadFile(pidFile(args[0]))
		if err != nil {
			return err
		}
		pid, err := strconv.Atoi(string(b))
		if err != nil {
			return err
		}
		if err := unix.Kill(pid, signal); err != nil {
			return err
		}
		// The first process, whose it is now, does not wait for it: it stays a zombie.
		return wait(time.Minute, func() bool {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			return err != nil || strings.Contains(string(b), ") Z ")
		})
	}
}

func consoleLog(guest string) string { return "/var/log/xen/console/guest-" + guest + ".log" }

// expect waits for what a guest prints. How far it came stands in a file.
func expect(args []string) error {
	guest := args[0]
	pattern, err := regexp.Compile(args[1])
	if err != nil {
		return err
	}
	mark := "/run/" + guest + ".read"
	passed := 0
	if b, err := os.ReadFile(mark); err == nil {
		passed, _ = strconv.Atoi(string(b))
	}
	var found string
	err = wait(3*time.Minute, func() bool {
		b, _ := os.ReadFile(consoleLog(guest))
		if passed > len(b) {
			return false
		}
		m := pattern.FindIndex(b[passed:])
		if m == nil {
			return false
		}
		found = string(b[passed+m[0] : passed+m[1]])
		passed += m[1]
		return true
	})
	if err != nil {
		consoles(nil)
		return fmt.Errorf("%s did not print %q: %w", guest, args[1], err)
	}
	fmt.Printf("%s| %s\n", guest, found)
	return os.WriteFile(mark, strconv.AppendInt(nil, int64(passed), 10), 0o644)
}

func consoles([]string) error {
	logs, err := filepath.Glob(consoleLog("*"))
	if err != nil {
		return err
	}
	ofXl, err := filepath.Glob("/var/log/xen/*.log")
	if err != nil {
		return err
	}
	for _, log := range append(logs, ofXl...) {
		b, err := os.ReadFile(log)
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(log), "guest-"), ".log")
		for line := range strings.Lines(string(b)) {
			fmt.Printf("%s| %s\n", name, strings.TrimSpace(line))
		}
	}
	return nil
}

// word is where a guest finds what dom0 tells it, relative to its own directory.
const word = "data/word"

func tell(args []string) error {
	id, err := exec.Command("xl", "domid", args[0]).Output()
	if err != nil {
		return fmt.Errorf("xl domid %s: %w", args[0], err)
	}
	c, err := xenstore.Dial()
	if err != nil {
		return err
	}
	return c.Write("/local/domain/"+strings.TrimSpace(string(id))+"/"+word, args[1])
}
