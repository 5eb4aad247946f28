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

	fd      int  // the kernel ignores O_NONBLOCK here, so the runtime's poller is of no use
	resumed bool // another process served it, and may have died with a command
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
	return &Device{Number: n.number, fd: int(n.fd)}, nil
}

// File is a copy of the descriptor by which the device is served, for who keeps it while no process
// serves: the kernel has the device as long as one is open. The caller closes it.
func (d *Device) File() (*os.File, error) {
	fd, err := unix.FcntlInt(uintptr(d.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("copy the descriptor of /dev/tpm%d: %w", d.Number, err)
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("/dev/tpm%d", d.Number)), nil
}

// Resume goes on with a device whose process died. f is a File of its, and is closed.
func Resume(number uint32, f *os.File) (*Device, error) {
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("take over /dev/tpm%d: %w", number, err)
	}
	return &Device{Number: number, fd: fd, resumed: true}, nil
}

// Close takes the device away from the kernel, and from whoever has it open, unless a File of it is open
// still. It is called when Serve has returned.
func (d *Device) Close() error { return unix.Close(d.fd) }
