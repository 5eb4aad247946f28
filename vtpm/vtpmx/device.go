// Package vtpmx gives the host's own kernel a vTPM, so that the host's programs leave the
// hardware TPM to the manager. The kernel's tpm_vtpm_proxy makes a TPM device whose
// commands a process answers (the kernel's Documentation/security/tpm/tpm_vtpm_proxy.rst).
package vtpmx

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/tpm"
)

// Device is a TPM of the kernel's that [Device.Serve] answers for.
type Device struct {
	// Number is N in /dev/tpmN and /dev/tpmrmN.
	Number uint32

	fd int // the kernel ignores O_NONBLOCK here, so the runtime's poller is of no use
}

// newDevice is struct vtpm_proxy_new_dev of linux/vtpm_proxy.h.
type newDevice struct{ flags, number, fd, major, minor uint32 }

const (
	// ioctlNew is VTPM_PROXY_IOC_NEW_DEV: _IOWR(0xa1, 0, struct vtpm_proxy_new_dev).
	ioctlNew = 3<<30 | uintptr(unsafe.Sizeof(newDevice{}))<<16 | 0xa1<<8
	flagTPM2 = 1 // VTPM_PROXY_FLAG_TPM2
)

// New makes a device for a vTPM of this family. The kernel at once begins to send
// commands to it, and shows it (in /dev, to its users) when they were answered.
func New(v tpm.Version) (*Device, error) {
	control, err := os.OpenFile("/dev/vtpmx", os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("the kernel can't give programs a vTPM: load its module tpm_vtpm_proxy: %w", err)
	} else if err != nil {
		return nil, fmt.Errorf("ask the kernel for a TPM device: %w", err)
	}
	defer control.Close()
	var n newDevice
	if v == tpm.V20 {
		n.flags = flagTPM2
	}
	// The kernel knows no close-on-exec here, and an emulator that is started at this
	// moment must not have the descriptor.
	syscall.ForkLock.RLock()
	_, _, e := unix.Syscall(unix.SYS_IOCTL, control.Fd(), ioctlNew, uintptr(unsafe.Pointer(&n)))
	if e == 0 {
		unix.CloseOnExec(int(n.fd))
	}
	syscall.ForkLock.RUnlock()
	if e != 0 {
		return nil, fmt.Errorf("ask the kernel for a TPM device: %w", e)
	}
	return &Device{n.number, int(n.fd)}, nil
}

// Close takes the device away from the kernel, and from whoever has it open. It is called
// when Serve has returned.
func (d *Device) Close() error { return unix.Close(d.fd) }
