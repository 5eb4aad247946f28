package aem

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// MaxText is the longest sentence that can be entrusted, in bytes.
const MaxText = 4096

// RecordsFolder is the folder on a medium that holds its records.
const RecordsFolder = "aem"

// FirstMedium is the name of the medium that Init makes.
const FirstMedium = "internal"

// Init prepares the TPM and a medium, whose folder in the running system is
// given. owner is the TPM's owner password, empty where there is none; disks are the
// UUIDs of the LUKS volumes whose headers are measured at each boot. A machine that is
// set up already is left alone.
func (m *Machine) Init(h Home, folder string, owner []byte, disks ...string) (*Setup, error) {
	if _, err := h.Setup(); err == nil {
		return nil, fmt.Errorf("this machine is set up already, in %s; aem-setup uninstall undoes that", h.dir)
	} else if !errors.Is(err, ErrNotSetUp) {
		return nil, err
	}
	b, credential, err := m.Chip.Provision(owner)
	if err != nil {
		return nil, fmt.Errorf("prepare the TPM: %w", err)
	}
	defer clear(credential)
	s := &Setup{Format: 2, Family: b.Version(), Disks: disks}
	if s.identity, err = b.Identity(); err != nil {
		return nil, err
	}
	s.Identity = s.identity[:]
	medium, err := m.enrol(h, FirstMedium, folder, "", b, credential)
	if err != nil {
		return nil, err
	}
	s.Media = []*Medium{medium}
	return s, h.saveSetup(s)
}

// SetText keeps a sentence to be sealed, sealed to this TPM alone until then.
func (m *Machine) SetText(h Home, text []byte) error {
	switch {
	case len(text) == 0:
		return errors.New("an empty sentence proves nothing")
	case len(text) > MaxText:
		return fmt.Errorf("the sentence has %d bytes; %d are possible", len(text), MaxText)
	case !utf8.Valid(text):
		return errors.New("the sentence is not text in UTF-8")
	}
	s, err := h.Setup()
	if err != nil {
		return err
	}
	b, err := m.backend(s, s.anchor())
	if err != nil {
		return err
	}
	return h.keep(secretFile, seal.KindText, b, text)
}

// ErrNoSecret says that there is nothing to seal yet.
var ErrNoSecret = errors.New("there is no secret to seal yet; run aem-setup secret set text, or totp")

// Present is the approved state that the present boot stands for, computed from
// its log and not read off the PCRs, so that it can be had after the cap.
func (b *Boot) Present(label string) (*seal.State, error) {
	if b.Launch.State != drtm.Verified {
		return nil, notPossible("this boot can't be approved: %s", b.Launch.Reason)
	}
	return b.state(b.Log.Log, label)
}

// Next is the approved state of the boot that files lead to, if the platform's part of
// the launch stays as it is. Where they are a stage 1 and the Linux that it runs in, it is
// the state of what that starts, whether this machine ever booted it or not. In which form
// files are hashed is learned of this boot's, where they lie in the folder that GRUB reads.
func (m *Machine) Next(b *Boot, files *drtm.Boot, folder, label string) (*seal.State, error) {
	if b.Launch.State != drtm.Verified {
		return nil, notPossible("the next boot can't be computed from this one: %s", b.Launch.Reason)
	}
	chain, err := m.chain(files, b.Log.Log)
	if err != nil {
		return nil, err
	}
	if chain != nil && chain.Refusal != nil {
		return nil, fmt.Errorf("stage 1 would start it as not approved, which is not sealed to: %w", chain.Refusal)
	}
	f, err := forecast(b.Log, files, chain, formsOf(b, folder))
	if err != nil {
		return nil, fmt.Errorf("compute the next boot: %w", err)
	}
	return b.state(f.Log, label)
}

// Predicted is the approved state of the prediction that aem predict --keep kept. It need
// not be one of this boot's launch, or of any that ever took place on this machine.
func (h Home) Predicted(b *Boot, label string) (*seal.State, error) {
	kept, err := h.prediction()
	if err != nil {
		return nil, err
	}
	return b.state(kept.Log, label)
}

// state computes the state that a log leads to, in the banks that count: all
// that the TPM has, without SHA-1 where there is a better one.
func (b *Boot) state(log *eventlog.Log, label string) (*seal.State, error) {
	s := &seal.State{Label: label, PCRs: sealedPCRs, Measured: append(Measured(log), b.Disks...)}
	replayed := drtm.Replay(log)
	for _, alg := range b.PCRs.Algs() {
		if alg == tpm.SHA1 && len(b.PCRs) > 1 {
			continue
		}
		bank := tpm.Bank{Alg: alg}
		bank.Reset(tpm.PCRSet(tpm.PCRHost), true)
		for _, d := range b.Disks {
			if err := bank.Extend(d.PCR, tpm.Find(d.Digests, alg)); err != nil {
				return nil, fmt.Errorf("compute the measurement of the %s: %w", d.Name, err)
			}
		}
		for _, p := range []tpm.PCR{tpm.PCRCode, tpm.PCRData} {
			if bank.Values[p] = replayed.Value(alg, p); bank.Values[p] == nil {
				return nil, notPossible("the log has no %s digests, and the TPM has that bank", alg)
			}
		}
		s.Values = append(s.Values, bank)
	}
	return s, nil
}
