// Package device opens the machine's TPM: the kernel's character device, the chip's
// registers without the kernel's driver, or an emulator's socket. It moves bytes and knows no command beyond the one by which
// it asks a chip for its family.
package device

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/tis"
)

// ErrNoTPM says that the machine shows no TPM: there is none, the firmware hides
// it, or the kernel's driver is not loaded.
var ErrNoTPM = errors.New("this machine shows no TPM; look whether the firmware's setup switches it off")

// Device is an open TPM.
type Device struct {
	// Path is the device node, the socket or the locality (tis:2) that was opened.
	Path string
	// Version is the TPM's family.
	Version tpm.Version

	tpm.Channel
	closer io.Closer
}

// Close gives the TPM back. A kernel device then flushes what was left in it.
func (d *Device) Close() error { return d.closer.Close() }

// Options say which TPM to open, and how long to wait for it.
type Options struct {
	// Spec is a device node, "swtpm:" and the path of an emulator's control
	// socket, "tis:LOCALITY[@ADDRESS]" for the TPM's registers at a locality from 0
	// to 3 (package tis; the kernel has no TPM meanwhile), or empty for the
	// machine's own TPM.
	Spec string
	// Wait is how long to wait for a driver that is not ready yet, or for another program to give back
	// a TPM that one at a time can have. An initramfs runs while drivers are still probing.
	Wait time.Duration
	// Root is the folder that holds sys and dev; empty means the root folder.
	Root string
}

// Open opens a TPM and learns its family. With no TPM it returns [ErrNoTPM], with one that another
// program has [tpm.ErrBusy].
func Open(o Options) (*Device, error) {
	if path, ok := strings.CutPrefix(o.Spec, "swtpm:"); ok {
		t, err := swtpm.Dial(path)
		if err != nil {
			return nil, err
		}
		return identify(&Device{Path: path, Channel: t, closer: t})
	}
	root := o.Root
	if root == "" {
		root = "/"
	}
	if spec, ok := strings.CutPrefix(o.Spec, "tis:"); ok {
		at, err := tis.ParseSpec(spec)
		if err != nil {
			return nil, err
		}
		at.Root = root
		t, err := tis.Open(context.Background(), at)
		if errors.Is(err, tis.ErrNoTPM) {
			return nil, fmt.Errorf("%w: %w", ErrNoTPM, err)
		} else if err != nil {
			return nil, err
		}
		return identify(&Device{Path: o.Spec, Channel: t, closer: t})
	}
	deadline := time.Now().Add(o.Wait)
	for {
		d, err := openAny(root, o.Spec)
		// A node that was named is there, or is not; only which one it is to be may have to be waited for.
		again := errors.Is(err, tpm.ErrBusy) || errors.Is(err, ErrNoTPM) && o.Spec == ""
		if !again || time.Now().After(deadline) {
			return d, err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// openAny opens a character device, the one to use where path is empty.
func openAny(root, path string) (_ *Device, err error) {
	if path == "" {
		if path, err = find(root); err != nil {
			return nil, err
		}
	}
	n, err := openNode(path)
	if err != nil {
		return nil, err
	}
	d := &Device{Path: path, Channel: n, closer: n}
	if d.Version = sysfsVersion(root, path); d.Version != 0 {
		return d, nil
	}
	return identify(d)
}

// find names the device node to use. /dev/tpmrm0 is preferred: there the kernel
// swaps sessions and objects, so that another program's leftovers don't fill the TPM.
func find(root string) (string, error) {
	// A TPM whose driver was unbound and bound again is called tpm1 where the kernel's
	// IMA keeps the first name.
	for _, name := range []string{"tpmrm0", "tpm0", "tpmrm1", "tpm1"} {
		path := filepath.Join(root, "dev", name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", ErrNoTPM
}

// sysfsVersion reads the family that the kernel found, or returns 0: kernels before 5.5 don't say.
func sysfsVersion(root, path string) tpm.Version {
	name := strings.Replace(filepath.Base(path), "tpmrm", "tpm", 1)
	b, err := os.ReadFile(filepath.Join(root, "sys/class/tpm", name, "tpm_version_major"))
	if err != nil {
		return 0
	}
	switch strings.TrimSpace(string(b)) {
	case "1":
		return tpm.V12
	case "2":
		return tpm.V20
	}
	return 0
}

// identify asks the TPM for its family, and closes it where it gives no answer.
func identify(d *Device) (*Device, error) {
	v, err := Family(d)
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("open the TPM at %s: %w", d.Path, err)
	}
	d.Version = v
	return d, nil
}

// Family asks a TPM which family it is of. A TPM 1.2 answers a TPM 2.0 command
// with its own response tag (TPM_TAG_RSP_COMMAND), and the other way round.
func Family(c tpm.Channel) (tpm.Version, error) {
	// TPM2_GetCapability(TPM_CAP_TPM_PROPERTIES, TPM_PT_FAMILY_INDICATOR, 1)
	rsp, err := c.Send([]byte{0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7a, 0, 0, 0, 6, 0, 0, 1, 0, 0, 0, 0, 1})
	if err != nil {
		return 0, err
	}
	if len(rsp) >= 10 {
		switch binary.BigEndian.Uint16(rsp) {
		case 0x8001, 0x8002:
			return tpm.V20, nil
		case 0x00c4:
			return tpm.V12, nil
		}
	}
	return 0, fmt.Errorf("the chip's answer (%d bytes) is of neither TPM family", len(rsp))
}

// node is a TPM's character device. Its file descriptor blocks, and is kept
// away from the runtime's poller: with O_NONBLOCK the kernel's TPM driver queues
// the command, and a read that comes too early ends the file.
type node struct {
	mu sync.Mutex
	fd int
}

func openNode(path string) (*node, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV):
		return nil, fmt.Errorf("%s: %w", path, ErrNoTPM)
	case errors.Is(err, unix.EBUSY):
		return nil, fmt.Errorf("the TPM at %s is in use by another program; try /dev/tpmrm0, or stop that program: %w: %w", path, tpm.ErrBusy, err)
	case err != nil:
		return nil, fmt.Errorf("open the TPM at %s: %w", path, err)
	}
	return &node{fd: fd}, nil
}

// Send writes a command and reads its response, each in one system call as the driver demands.
func (n *node) Send(cmd []byte) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if w, err := retry(func() (int, error) { return unix.Write(n.fd, cmd) }); err != nil {
		return nil, fmt.Errorf("send a command to the TPM: %w", err)
	} else if w != len(cmd) {
		return nil, fmt.Errorf("the TPM's driver took %d of a command's %d bytes", w, len(cmd))
	}
	rsp := make([]byte, 4096) // TPM_BUFSIZE of the kernel's driver
	r, err := retry(func() (int, error) { return unix.Read(n.fd, rsp) })
	if err != nil {
		return nil, fmt.Errorf("read the TPM's response: %w", err)
	}
	if r == 0 {
		return nil, errors.New("the TPM's driver gave no response")
	}
	return rsp[:r], nil
}

func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

func (n *node) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return unix.Close(n.fd)
}
