package measure

import (
	"errors"
	"fmt"
	"io"
	"os/exec"

	"github.com/antievilmaid/aem/tpm"
)

// Prepared is a guest of Xen that can be measured, and started with what was measured: all of
// it lies in memory that nobody can write to.
//
// xl gets it as open files that it inherits, and not by paths that lead to this process.
// It keeps them for as long as the guest lives, and builds the guest from them again when the
// guest restarts. A path to a process that has ended meanwhile may by then lead to another
// one's files.
type Prepared struct {
	*Configuration

	owned, kernel, initrd *Artefact
	handed                *Artefact // the configuration for xl
}

// firstFile is the number that the first of exec.Cmd's ExtraFiles has in the child.
const firstFile = 3

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
		ramdisk = inheritedPath(1)
	}
	if b, err = p.With(inheritedPath(0), ramdisk); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if p.handed, err = SealBytes(path, b, nil); err != nil {
		return nil, err
	}
	return p, nil
}

func inheritedPath(n int) string { return fmt.Sprintf("/proc/self/fd/%d", firstFile+n) }

// Hand gives the guest's files to a command that was not started yet, and returns the path at
// which that finds the configuration: xl create PATH.
func (p *Prepared) Hand(xl *exec.Cmd) (string, error) {
	if len(xl.ExtraFiles) != 0 {
		return "", errors.New("the command inherits other files already, and the configuration names the guest's by their numbers")
	}
	for _, a := range []*Artefact{p.kernel, p.initrd, p.handed} {
		if a != nil {
			xl.ExtraFiles = append(xl.ExtraFiles, a.Memory())
		}
	}
	return inheritedPath(len(xl.ExtraFiles) - 1), nil
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

// Close lets the files in memory go. An xl that runs has them still.
func (p *Prepared) Close() error {
	var all error
	for _, a := range []*Artefact{p.owned, p.kernel, p.initrd, p.handed} {
		if a != nil {
			all = errors.Join(all, a.Close())
		}
	}
	return all
}
