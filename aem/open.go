package aem

import (
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/stage1"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/device"
)

// Where says where a machine's TPM and launch log are. The zero Where is this machine.
type Where struct {
	TPM  string        // as device.Options.Spec
	Wait time.Duration // for a TPM whose driver is not ready yet
	Log  string        // a file in place of the machine's own launch log
	// Disks are the UUIDs of the LUKS volumes whose headers are measured.
	Disks []string
}

// Open opens a machine. The TPM's commands are counted in the counter, which may
// be nil. The closer gives the TPM back.
func Open(w Where, counter *tpm.Counter) (*Machine, io.Closer, error) {
	d, err := device.Open(device.Options{Spec: w.TPM, Wait: w.Wait})
	if err != nil {
		return nil, nil, err
	}
	var ch tpm.Channel = d
	if counter != nil {
		counter.Channel = d
		ch = counter
	}
	chip, err := NewChip(ch, d.Version)
	if err != nil {
		d.Close()
		return nil, nil, err
	}
	m := &Machine{Chip: chip, Log: FindLog, Now: time.Now, Booted: booted, UEFI: stage1.ThisMachine().EFI}
	if m.Disks, err = ReadDisks("/", w.Disks, w.Wait); err != nil {
		// The machine is opened all the same: what is refused for a disk is capped, too.
		missing := err
		m.Disks = func([]tpm.Alg) ([]seal.Measurement, error) { return nil, missing }
	}
	if w.Log != "" {
		m.Log = func() (*LaunchLog, error) { return ReadLog(w.Log) }
	}
	return m, d, nil
}

// booted is when the kernel was started, by the present clock: a clock that was set
// since then is right about this time, too.
func booted() (time.Time, error) {
	var since unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &since); err != nil {
		return time.Time{}, fmt.Errorf("ask the kernel when it was started: %w", err)
	}
	return time.Now().Add(-time.Duration(since.Nano())), nil
}
