package aem

import (
	"fmt"
	"time"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/totp"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
)

// Machine is the machine that is to prove itself. Tests put fakes in its fields.
type Machine struct {
	Chip Chip
	// Log reads the launch log, and says where it was found. Where there is none it
	// is empty, or nil.
	Log func() (*LaunchLog, error)
	Now func() time.Time
	// Disks measures the headers of the machine's encrypted disks; nil where none are.
	Disks func([]tpm.Alg) ([]seal.Measurement, error)
	// InInitramfs says that this is the boot's own program, which extends what Disks
	// measures. In the running system it was extended long ago.
	InInitramfs bool
	// Root is the system whose package manager is asked what changed in the files that
	// will boot. Empty: none is.
	Root string
	// Mounted finds the disks that a stage 1 mounts; nil asks this system's mounts.
	Mounted Mounted
	// UEFI says that the machine has UEFI firmware: then stage 1 starts no Xen that would call a BIOS.
	UEFI bool
	// Booted is when the machine was started; nil where nobody knows.
	Booted func() (time.Time, error)
}

// Chip is a TPM of either family, as far as the use cases need it.
type Chip interface {
	Version() tpm.Version
	// ReadPCRs reads PCRs in every bank that the TPM keeps.
	ReadPCRs(tpm.PCRs) (tpm.Banks, error)
	// Extend extends a PCR in the banks of the digests.
	Extend(tpm.PCR, []tpm.TaggedDigest) error
	// Backend finds key and counter by a record's anchor; it sends nothing.
	Backend(anchor []byte) (seal.Backend, error)
	// Provision prepares the TPM for a medium. The credential returned is what
	// moves the counter later; owner is the TPM's owner password.
	Provision(owner []byte) (b seal.Backend, credential []byte, err error)
	// ProvisionMore prepares the TPM for a further medium, with the credential of an
	// earlier one.
	ProvisionMore(credential []byte) (b seal.Backend, more []byte, err error)
	// Provisioned reports whether the TPM was ever prepared for a medium.
	Provisioned() (bool, error)
	// SwitchedOff reports whether, in this boot alone, what the owner has in the TPM can't
	// be reached.
	SwitchedOff() (bool, error)
	// Guesses reads the TPM's defence against guessing.
	Guesses() (Guesses, error)
	// HoldCodeKey gives the machine a key for one-time codes, and returns what has to be
	// sealed to have them made later. On a TPM 2.0 that is not the key: the TPM holds it,
	// under the anchor's storage key, and nobody reads it again.
	HoldCodeKey(anchor []byte, alg tpm.Alg, key []byte) (held []byte, err error)
	// CodeMAC computes with what HoldCodeKey returned, and uses it in place: the caller
	// wipes it after the last code.
	CodeMAC(held []byte, alg tpm.Alg) (totp.MAC, error)
	// Clock reads the TPM's clock. has is false where the family has none that outlives
	// a restart.
	Clock() (c tpm2.Clock, has bool, err error)
	// Random asks the TPM for random bytes, which are to be mixed with others'.
	Random(n int) ([]byte, error)
	// Describe names the chip to a person.
	Describe() (string, error)
}

// Guesses is the state of a TPM's defence against guessing a PIN.
type Guesses struct {
	Left uint32        // wrong tries before the TPM locks; meaningless while it is locked
	Wait time.Duration // until a locked TPM takes a try again, or one wrong try is forgiven
	Lock bool          // whether the TPM refuses all tries now
}

// String is a sentence for the owner.
func (g Guesses) String() string {
	wait := g.Wait.Round(time.Second)
	switch {
	case g.Lock && wait > 0:
		return fmt.Sprintf("It takes the next try in %s.", wait)
	case g.Lock:
		return "It does not say when it takes the next try."
	case g.Left == 1:
		return "One try is left."
	case g.Left > 1:
		return fmt.Sprintf("%d tries are left.", g.Left)
	}
	return ""
}

// The PCRs that a record is sealed to.
var sealedPCRs = tpm.PCRSet(tpm.PCRHost, tpm.PCRCode, tpm.PCRData)

// launchPCRs are those of them that a launch makes.
var launchPCRs = tpm.PCRSet(tpm.PCRCode, tpm.PCRData)

// Boot is what the machine shows of itself: its PCRs and its launch.
type Boot struct {
	PCRs   tpm.Banks
	Log    *LaunchLog // nil where none was found
	Launch drtm.Launch
	Disks  []seal.Measurement // the headers of the encrypted disks, as they are now
	// Static says that the proof rests on the static root, not on the launch.
	Static bool
	found  tpm.Banks // the PCRs before this program extended any
}

// Boot looks at the present boot.
func (m *Machine) Boot() (*Boot, error) {
	pcrs, err := m.Chip.ReadPCRs(sealedPCRs)
	if err != nil {
		return nil, err
	}
	b := &Boot{PCRs: pcrs, found: pcrs.Clone()}
	if b.Log, err = m.Log(); err != nil {
		return nil, err
	}
	var log *eventlog.Log
	if b.Log != nil {
		log = b.Log.Log
	}
	if b.Disks, err = m.disks(pcrs.Algs()); err != nil {
		return nil, err
	}
	if m.InInitramfs {
		if err := m.measureDisks(b); err != nil {
			return nil, err
		}
	}
	b.Launch = drtm.Check(log, pcrs)
	if b.Launch.State == drtm.Verified && b.Log.Broken != nil {
		// The prefix that could be read explains the PCRs; what follows it is not an event.
		b.Launch.State = drtm.Unproven
		b.Launch.Reason = b.Log.Broken.Error()
	}
	return b, nil
}

// Grade says to the owner what the proof rests on, and weak, where it is not
// empty, why it is weaker than it could be.
func (b *Boot) Grade() (grade, weak string) {
	if b.Static {
		return "No dynamic launch: firmware and boot loader measured themselves", "Who changes the firmware can make it measure what she likes."
	}
	banks := ""
	for i, a := range b.PCRs.Algs() {
		if i > 0 {
			banks += ", "
		}
		banks += a.String()
	}
	grade = fmt.Sprintf("Dynamic launch, %s, log checked in %s", b.Launch.Platform, banks)
	switch {
	case b.Log != nil && b.Log.Simulated:
		weak = "The launch was simulated by a program, not made by a CPU."
	case len(b.PCRs) == 1 && b.PCRs[0].Alg == tpm.SHA1:
		weak = "This TPM measures in SHA-1 alone."
	}
	return grade, weak
}
