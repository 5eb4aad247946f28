package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/xenstore"
)

// await waits for a word from dom0.
func await(args []string) error {
	c, err := xenstore.DialPath(xenstore.Device)
	if err != nil {
		return err
	}
	changed := make(chan struct{}, 1)
	if _, err := c.Watch(word, func(string) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}); err != nil {
		return err
	}
	for range changed {
		if v, _ := c.Read(word); v == args[0] {
			return nil
		}
	}
	return nil
}

// rebind takes a device of Xen's from its driver and gives it back, as if the driver were
// unloaded and loaded again.
func rebind(args []string) error {
	for _, how := range []string{"unbind", "bind"} {
		if err := os.WriteFile("/sys/bus/xen/drivers/"+args[0]+"/"+how, []byte(args[1]), 0o200); err != nil {
			return err
		}
	}
	return nil
}

// useTPM reads PCR 0 and random bytes, and prints them.
func useTPM(args []string) error {
	pcr, random := "00c10000000e0000001500000000", "00c10000000e0000004600000010" // TPM_PCRRead, TPM_GetRandom
	if args[0] == "2.0" {
		pcr, random = "8001000000140000017e00000001000b03010000", "80010000000c0000017b0010" // TPM2_PCR_Read, TPM2_GetRandom
	}
	if err := wait(20*time.Second, func() bool { _, err := os.Stat(args[1]); return err == nil }); err != nil {
		return fmt.Errorf("%s: %w", args[1], err)
	}
	// Not through package os, which would make the device one that does not wait for its answer.
	fd, err := unix.Open(args[1], unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, c := range []struct{ name, command string }{{"PCR 0", pcr}, {"random", random}} {
		command, err := hex.DecodeString(c.command)
		if err != nil {
			return err
		}
		begin := time.Now()
		if _, err := unix.Write(fd, command); err != nil {
			return fmt.Errorf("send to %s: %w", args[1], err)
		}
		b := make([]byte, 4096)
		n, err := unix.Read(fd, b)
		if err != nil {
			return fmt.Errorf("read from %s: %w", args[1], err)
		}
		if n < 10 || binary.BigEndian.Uint32(b[6:]) != 0 {
			return fmt.Errorf("%s: the TPM answered %x", c.name, b[:n])
		}
		if c.name == "random" && bytes.Equal(b[n-16:n], make([]byte, 16)) {
			return errors.New("the random bytes are zeros")
		}
		fmt.Printf("TPM %s %s: %s %x (%d ms)\n", args[0], args[1], c.name, b[10:n], time.Since(begin).Milliseconds())
	}
	return nil
}

// powerOff ends the guest at once: there is nothing to keep.
func powerOff([]string) error { return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) }
