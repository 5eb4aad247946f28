package testbed

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Ext4Image makes a disk image with an ext4 file system that holds what is in
// dir, or nothing where dir is empty. No mount and no root is needed.
func Ext4Image(path string, megabytes int, dir string) error {
	args := []string{"-q", "-F", "-t", "ext4", "-E", "root_owner=0:0,lazy_itable_init=0"}
	if dir != "" {
		args = append(args, "-d", dir)
	}
	_, err := tool("mke2fs", append(args, path, strconv.Itoa(megabytes)+"M")...)
	return err
}

// ReadExt4 reads a file from an image that no guest has open. Run
// [RecoverExt4] before it where the guest was killed.
func ReadExt4(image, name string) ([]byte, error) {
	if strings.ContainsAny(name, "\"\n") {
		return nil, fmt.Errorf("debugfs can't be asked for %q", name)
	}
	dir, err := os.MkdirTemp("", "aem-ext4-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "file")
	said, err := tool("debugfs", "-R", fmt.Sprintf("dump \"%s\" %s", name, out), image)
	if err != nil {
		return nil, err
	}
	// debugfs succeeds whatever happened, and makes no file where there is none to read.
	b, err := os.ReadFile(out)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read %s from %s: %w (%s)", name, filepath.Base(image), err, strings.TrimSpace(said))
	}
	return b, err
}

// RecoverExt4 does what mounting does after a power cut: it replays the journal
// of an image that no guest has open.
func RecoverExt4(image string) error {
	_, err := tool("e2fsck", "-p", image)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 { // "errors were corrected"
		return nil
	}
	return err
}

// tool runs a program to its end and returns what it said.
func tool(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// WriteExt4 replaces a file in the root of an image that no guest has open.
func WriteExt4(image, name string, content []byte) error {
	dir, err := os.MkdirTemp("", "aem-ext4-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	in, commands := filepath.Join(dir, "file"), filepath.Join(dir, "commands")
	if err := os.WriteFile(in, content, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(commands, fmt.Appendf(nil, "rm %q\nwrite %q %q\n", name, in, name), 0o600); err != nil {
		return err
	}
	if _, err := tool("debugfs", "-w", "-f", commands, image); err != nil {
		return err
	}
	// debugfs succeeds whatever happened.
	if got, err := ReadExt4(image, name); err != nil || !bytes.Equal(got, content) {
		return fmt.Errorf("%s was not written into %s (%v)", name, filepath.Base(image), err)
	}
	return nil
}

// Ext4UUID is the UUID of an image's file system, as GRUB and mount(8) take it.
func Ext4UUID(image string) (string, error) {
	f, err := os.Open(image)
	if err != nil {
		return "", err
	}
	defer f.Close()
	u := make([]byte, 16)
	if _, err := f.ReadAt(u, 1024+104); err != nil { // the superblock's s_uuid
		return "", err
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]), nil
}
