package measure

import (
	"errors"
	"fmt"
	"io"

	"github.com/antievilmaid/aem/tpm"
)

// Prepared is a guest of Xen that can be measured, and started with what was measured: all of
// it lies in memory that nobody can write to. It is good for each start until Close, also for
// those that xl makes by itself when the guest restarts.
type Prepared struct {
	*Configuration
	// Handed is the configuration for xl, as [Configuration.With] makes it.
	Handed *Artefact

	owned, kernel, initrd *Artefact
}

// Prepare reads a guest's configuration, and what it names, each of them once. algs are all
// banks that the guest's vTPM may have. It fails where the guest could be started with something that
// was not measured.
func Prepare(path string, algs []tpm.Alg, progress Progress) (_ *Prepared, err error) {
	p := &Prepared{}
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	if p.owned, err = Seal(path, MaxConfiguration, algs, progress); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(p.owned.Reader())
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if p.Configuration, err = ParseConfiguration(b); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if p.kernel, err = Seal(p.Kernel, MaxKernel, algs, progress); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	ramdisk := ""
	if p.Ramdisk != "" {
		if p.initrd, err = Seal(p.Ramdisk, MaxInitrd, algs, progress); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		ramdisk = p.initrd.Path()
	}
	if b, err = p.With(p.kernel.Path(), ramdisk); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if p.Handed, err = SealBytes(path, b, nil); err != nil {
		return nil, err
	}
	return p, nil
}

// Launch is what was measured. Who runs the guest where is for the caller to add: Guest, Host
// and Copies.
func (p *Prepared) Launch() Launch {
	l := Launch{Start: Measured, Configuration: &p.owned.File, Kernel: &p.kernel.File, CommandLine: p.CommandLine}
	if p.initrd != nil {
		l.Initrd = &p.initrd.File
	}
	return l
}

// Close lets the files in memory go. xl must not start the guest any more.
func (p *Prepared) Close() error {
	var all error
	for _, a := range []*Artefact{p.owned, p.kernel, p.initrd, p.Handed} {
		if a != nil {
			all = errors.Join(all, a.Close())
		}
	}
	return all
}
