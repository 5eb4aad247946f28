package tis

import "errors"

// What stands in the way. Each error of this package wraps one of these, or the
// operating system's own, and says what was seen.
var (
	// ErrNotRoot says that only root may do this.
	ErrNotRoot = errors.New("only root reaches the TPM's registers")
	// ErrLockedDown says that the kernel keeps /dev/mem even from root.
	ErrLockedDown = errors.New("the kernel lets no program reach the TPM's registers")
	// ErrRegionBusy says that a driver claims the registers, and that the kernel
	// gives nobody else what is claimed (CONFIG_IO_STRICT_DEVMEM, iomem=strict).
	ErrRegionBusy = errors.New("a driver claims the TPM's registers")
	// ErrNotRegisters says that ordinary memory lies at the address, which
	// CONFIG_STRICT_DEVMEM keeps closed.
	ErrNotRegisters = errors.New("there are no registers at this address")
	// ErrInUse says that a program has the kernel's TPM device open.
	ErrInUse = errors.New("the TPM is in use")
	// ErrDriver says that the TPM's driver is not one that can be taken away and
	// given back.
	ErrDriver = errors.New("the TPM's driver can't be taken away from it")

	// ErrNoTPM says that nothing answers at the address.
	ErrNoTPM = errors.New("no TPM answers at this address")
	// ErrInterface says that the registers contradict the specification.
	ErrInterface = errors.New("the TPM's registers make no sense")
	// ErrLocalityClosed says that the chipset or the TPM has no such locality for
	// software. Localities 1 to 3 are open only where a launch left them so.
	ErrLocalityClosed = errors.New("the locality is closed")
	// ErrLocalityHeld says that somebody uses the TPM at another locality, and does
	// not let go.
	ErrLocalityHeld = errors.New("another locality has the TPM")
	// ErrTimeout says that the TPM did not do in time what the specification demands.
	ErrTimeout = errors.New("the TPM did not answer in time")
	// ErrCommand says that what was to be sent is no command, so nothing was sent.
	ErrCommand = errors.New("this is no TPM command")
	// ErrResponse says that what the TPM returned is no response.
	ErrResponse = errors.New("the TPM's response is malformed")
	// ErrClosed says that the channel was closed.
	ErrClosed = errors.New("the TPM was closed")
)
