// Indom0 runs in a test machine's dom0. "boot" does what a boot loader that measures does to
// PCRs 8 and 9; "await SOCKET" waits until vtpmd answers. There is no shell, so it also stands in for two
// scripts, by their names: /etc/xen/scripts/block, and vtpm-bootloader of dist/vtpm.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/xenstore"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/device"
	"github.com/antievilmaid/aem/tpm2"
	"github.com/antievilmaid/aem/vtpm/admin"
)

func main() {
	var err error
	switch {
	case filepath.Base(os.Args[0]) == "vtpm-bootloader":
		err = syscall.Exec("/bin/vtpmctl", append([]string{"vtpmctl", "bootloader"}, os.Args[1:]...), os.Environ())
	case filepath.Base(os.Args[0]) == "block":
		err = block()
	case len(os.Args) == 2 && os.Args[1] == "boot":
		err = boot()
	case len(os.Args) == 3 && os.Args[1] == "await":
		err = await(os.Args[2])
	default:
		err = fmt.Errorf("it knows boot, and await SOCKET")
	}
	if err != nil {
		fmt.Println("indom0:", err)
		os.Exit(1)
	}
}

func boot() error {
	d, err := device.Open(device.Options{Wait: 10 * time.Second})
	if err != nil {
		return err
	}
	defer d.Close()
	chip := tpm2.New(d)
	banks, err := chip.ReadPCRs(tpm.PCRSet(8))
	if err != nil {
		return err
	}
	for _, p := range []tpm.PCR{8, 9} {
		if err := chip.Extend(p, tpm.SumAll(banks.Algs(), []byte("a boot loader's word"))); err != nil {
			return err
		}
	}
	return nil
}

// block tells Xen's block backend which device a guest's disk is (Xen's docs/misc/block-scripts.txt).
func block() error {
	if os.Args[1] != "add" {
		return nil
	}
	c, err := xenstore.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	path := os.Getenv("XENBUS_PATH")
	device, err := c.Read(path + "/params")
	if err != nil {
		return err
	}
	var s unix.Stat_t
	if err := unix.Stat(device, &s); err != nil {
		return err
	}
	if err := c.Write(path+"/physical-device", fmt.Sprintf("%x:%x", unix.Major(s.Rdev), unix.Minor(s.Rdev))); err != nil {
		return err
	}
	return c.Write(path+"/hotplug-status", "connected")
}

func await(socket string) (err error) {
	c := admin.NewClient(socket)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if _, err = c.Status(context.Background()); err == nil {
			return nil
		}
	}
	return err
}
