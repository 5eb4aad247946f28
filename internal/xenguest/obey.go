package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/xenbed/order"
)

// obey runs what comes over the machine's virtio port, one program after the other, until
// it is told to end. The initramfs is measured, and so says nothing of what a test does in a boot.
func obey([]string) error {
	if err := realRoot(); err != nil {
		return err
	}
	var ports []string
	if err := wait(20*time.Second, func() bool {
		ports, _ = filepath.Glob("/dev/vport*p1")
		return len(ports) == 1
	}); err != nil {
		return fmt.Errorf("the port for orders: %w", err)
	}
	port, err := os.OpenFile(ports[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer port.Close()
	in, out := json.NewDecoder(port), json.NewEncoder(port)
	if err := out.Encode(order.Result{Out: "ready"}); err != nil {
		return err
	}
	for {
		var o order.Order
		if err := in.Decode(&o); err != nil {
			return fmt.Errorf("read an order: %w", err)
		}
		if len(o.Args) == 0 {
			return out.Encode(order.Result{})
		}
		if err := out.Encode(do(o)); err != nil {
			return err
		}
	}
}

// realRoot makes the root something that is mounted, as that of an installed system is: an
// initramfs can't be pivoted away from, and so nothing in it could be given a root of its own.
func realRoot() error {
	const folder = "/root"
	if err := unix.Mount("/", folder, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make a root: %w", err)
	}
	if err := unix.Chdir(folder); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move the root: %w", err)
	}
	return unix.Chroot(".")
}

// do runs a program and shows both on the machine's console, for whoever looks on.
func do(o order.Order) order.Result {
	line := strings.Join(o.Args, " ")
	fmt.Printf("dom0# %.200s\n", line)
	begin := time.Now()
	c := exec.Command(o.Args[0], o.Args[1:]...)
	c.Stdin = strings.NewReader(o.In)
	said, err := c.CombinedOutput()
	r := order.Result{Out: string(said), Seconds: time.Since(begin).Seconds()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.Exit = exit.ExitCode()
	case err != nil:
		r.Exit, r.Out = 127, err.Error()
	}
	if !o.Quiet {
		fmt.Print(r.Out)
	}
	if r.Exit != 0 {
		fmt.Printf("exit %d\n", r.Exit)
	}
	return r
}

// flip changes the lowest bit of a byte of a file.
func flip(args []string) error {
	f, err := os.OpenFile(args[0], os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var at int64
	if _, err := fmt.Sscan(args[1], &at); err != nil {
		return err
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return err
	}
	b[0] ^= 1
	_, err = f.WriteAt(b[:], at)
	return err
}
