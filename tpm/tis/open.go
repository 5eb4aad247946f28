package tis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/antievilmaid/aem/tpm"
)

// Options say which TPM to open, and how.
type Options struct {
	Locality tpm.Locality
	// Address is the physical address of the registers; 0 means [Base].
	Address uint64
	// Root is the folder that holds dev, sys and proc; empty means the root folder.
	Root string
}

// ParseSpec reads "LOCALITY[@ADDRESS]", such as 2 or 2@0xfed40000.
func ParseSpec(spec string) (Options, error) {
	locality, address, given := strings.Cut(spec, "@")
	l, err := strconv.ParseUint(locality, 10, 8)
	if err != nil || tpm.Locality(l) > HighestLocality {
		return Options{}, fmt.Errorf("the TPM's locality %q is not a number from 0 to %d", locality, HighestLocality)
	}
	o := Options{Locality: tpm.Locality(l)}
	if given {
		if o.Address, err = strconv.ParseUint(address, 0, 64); err != nil || !sane(o.Address) {
			return Options{}, fmt.Errorf("the TPM's address %q is not one where registers can lie (such as %#x)", address, uint64(Base))
		}
	}
	return o, nil
}

// sane reports whether registers can lie at a physical address: on a whole page, not
// at zero, and within the 52 bits that addresses have.
func sane(address uint64) bool {
	return address != 0 && address%page == 0 && address < 1<<52-Size
}

// TPM is the machine's TPM without its driver.
type TPM struct {
	*Channel
	registers *memory
	driver    *Driver
}

// Open takes the TPM from its driver, maps its registers, and takes the locality.
// While it is open the machine has no /dev/tpm0. A process that is killed in between
// leaves the driver unbound; [Driver.Restore]'s comment says how to bind it again.
// Whatever an error names, the driver has the TPM again.
func Open(ctx context.Context, o Options) (_ *TPM, err error) {
	if o.Root == "" {
		o.Root = "/"
	}
	if o.Address == 0 {
		o.Address = Base
	}
	if !sane(o.Address) {
		return nil, fmt.Errorf("%w: %#x", ErrNotRegisters, o.Address)
	}
	// What can be refused without taking anything from anybody comes first.
	t := &TPM{}
	if t.registers, err = openMemory(o.Root); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.giveBack())
		}
	}()
	if t.driver, err = Unbind(o.Root); err != nil {
		return nil, err
	}
	if err := t.registers.mapAt(o.Address, o.Root); err != nil {
		return nil, err
	}
	t.Channel, err = New(ctx, mapped{t.registers.pages}, Config{Locality: o.Locality, Address: o.Address})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// Close gives back the locality, the registers, and the driver its TPM.
func (t *TPM) Close() error { return errors.Join(t.Channel.Close(), t.giveBack()) }

func (t *TPM) giveBack() error { return errors.Join(t.registers.close(), t.driver.Restore()) }
