package measure

import (
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
)

// Start is who says what a guest starts with.
type Start uint8

// The starts. The zero Start is none of them, and is refused.
const (
	// Measured: the manager, which has what the guest is built from.
	Measured Start = iota + 1
	// Unmeasured: nobody. PCRs 1, 4 and 5 are capped, so that the guest can't claim in
	// them to have started with anything.
	Unmeasured
	// Firmware: the guest's own, which measures into PCRs 0 to 7 what it starts. The manager
	// leaves those alone. A guest without such firmware could write into them what
	// it likes, so this is for QEMU's machines only, and PCR 18 tells.
	Firmware
	// late is Unmeasured, for a guest that ran before it had a vTPM.
	late
)

// String is the word that PCR 18 is extended with.
func (s Start) String() string {
	switch s {
	case Measured:
		return "measured"
	case Unmeasured:
		return "unmeasured"
	case Firmware:
		return "firmware"
	case late:
		return "late"
	}
	return fmt.Sprintf("unknown start %d", uint8(s))
}

// The PCRs that say what a guest starts with, as a PC's firmware and pv-grub use them.
const (
	pcrConfiguration tpm.PCR = 1
	pcrKernel        tpm.PCR = 4
	pcrKernelData    tpm.PCR = 5 // command line, initramfs
)

// The localities of a vTPM at which it is told what a guest can't tell it.
const (
	localityGuest   tpm.Locality = 0
	localityManager tpm.Locality = 2
	localityLaunch  tpm.Locality = 4 // the hash sequence of a launch
)

// The texts that are measured in place of something that is not there.
const (
	textUnmeasured = "aem vtpm: unmeasured guest"
	textNoInitrd   = "aem vtpm: no initrd"
)

// Launch is one guest's start: all that its vTPM is told of it before it runs.
type Launch struct {
	Guest vtpm.Guest // a late one is never measured, whatever Start says
	Start Start
	// Kernel, Configuration and, where the guest has one, Initrd are what was measured of
	// a Measured guest. The configuration is the file's bytes as its owner wrote them.
	Kernel, Configuration, Initrd *File
	CommandLine                   string // as the kernel gets it
	Host                          Host
	// Copies are PCRs of the host, of 0 to 15, whose values are extended into the same
	// PCRs of the vTPM.
	Copies tpm.PCRs
}

// Step is one thing that is done to a vTPM before its guest runs, and how the log shows it.
type Step struct {
	At    tpm.Locality
	Event eventlog.Event
}

// ByLaunch reports whether the launch's hash sequence makes the step. Extending it, too,
// would count it twice.
func (s *Step) ByLaunch() bool { return s.At == localityLaunch }

func (l *Launch) start() Start {
	if l.Guest.Late {
		return late
	}
	return l.Start
}

// Steps lists in their order what the vTPM is told, in each of its active banks.
// docs/formats/vtpm-measurements.md has the table.
func (l *Launch) Steps(algs []tpm.Alg) ([]Step, error) {
	for _, a := range algs {
		if !a.Available() {
			return nil, fmt.Errorf("the vTPM has a %s bank, which can't be computed here; switch it off", a)
		}
	}
	if len(algs) == 0 {
		return nil, errors.New("the vTPM has no active bank")
	}
	if err := l.check(); err != nil {
		return nil, err
	}
	b := builder{algs: algs}
	state, err := l.Host.State()
	if err != nil {
		return nil, err
	}
	b.inherit(localityLaunch, tpm.PCRCode, state, l.Host.Grade)
	if err := b.copies(l.Host.PCRs, l.Copies); err != nil {
		return nil, err
	}
	if err := b.guest(l); err != nil {
		return nil, err
	}
	b.inherit(localityManager, tpm.PCRData, l.event(), l.Host.Grade)
	return b.steps, nil
}

// check refuses a launch that says too little, or two things at once.
func (l *Launch) check() error {
	files := []struct {
		what string
		*File
	}{{"configuration", l.Configuration}, {"kernel", l.Kernel}, {"initrd", l.Initrd}}
	switch l.start() {
	case Measured:
		if l.Kernel == nil || l.Configuration == nil {
			return errors.New("a measured guest has a kernel and a configuration, and one of them was not measured")
		}
		for _, f := range files {
			if f.File != nil && len(tpm.Find(f.Digests, tpm.SHA256)) != tpm.SHA256.Size() {
				return fmt.Errorf("the guest's %s was not measured with SHA-256", f.what)
			}
		}
	case Unmeasured, Firmware, late:
		for _, f := range files {
			if f.File != nil && !l.Guest.Late {
				return fmt.Errorf("the guest's %s was measured, and the guest counts as %s", f.what, l.Start)
			}
		}
	default:
		return fmt.Errorf("nobody said who measures the guest (%s)", l.Start)
	}
	return nil
}
