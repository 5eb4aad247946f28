package aem

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

// Init prepares the TPM and a medium, whose folder in the running system is
// given. owner is the TPM's owner password, empty where there is none. A machine
// that is set up already is left alone.
func (m *Machine) Init(h Home, medium string, owner []byte) (*Setup, error) {
	if _, err := h.Setup(); err == nil {
		return nil, fmt.Errorf("this machine is set up already, in %s", h.dir)
	} else if !errors.Is(err, ErrNotSetUp) {
		return nil, err
	}
	records := filepath.Join(medium, RecordsFolder)
	if err := os.MkdirAll(records, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder for records on the medium: %w", err)
	}
	b, credential, err := m.Chip.Provision(owner)
	if err != nil {
		return nil, fmt.Errorf("prepare the TPM: %w", err)
	}
	defer clear(credential)
	s := &Setup{Format: 1, Family: b.Version(), Anchor: b.Anchor(), Medium: records}
	if s.identity, err = b.Identity(); err != nil {
		return nil, err
	}
	rand.Read(s.medium[:])
	s.Identity, s.MediumID = s.identity[:], s.medium[:]
	if len(credential) > 0 {
		if err := h.keep(credentialFile, seal.KindCredential, b, credential); err != nil {
			return nil, err
		}
	}
	return s, h.saveSetup(s)
}

// backend opens the TPM's part for this machine's medium.
func (m *Machine) backend(s *Setup) (seal.Backend, error) {
	if s.Family != m.Chip.Version() {
		return nil, fmt.Errorf("%w: it was set up with a %s and has a %s", seal.ErrOtherFamily, s.Family, m.Chip.Version())
	}
	return m.Chip.Backend(s.Anchor)
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
	b, err := m.backend(s)
	if err != nil {
		return err
	}
	return h.keep(secretFile, seal.KindText, b, text)
}

// ErrNoSecret says that there is nothing to seal yet.
var ErrNoSecret = errors.New("there is no secret to seal yet; run aem-setup secret set text")

// Files are what the next boot will launch.
type Files struct {
	Kernel, Initrd []byte
	CommandLine    string
	Label          string
}

// Present is the approved state that the present boot stands for, computed from
// its log and not read off the PCRs, so that it can be had after the cap.
func (b *Boot) Present(label string) (*seal.State, error) {
	if b.Launch.State != drtm.Verified {
		return nil, notPossible("this boot can't be approved: %s", b.Launch.Reason)
	}
	return b.state(b.Log.Log, label)
}

// Next is the approved state of the boot that these files lead to, if the
// platform's part of the launch stays as it is.
func (b *Boot) Next(f Files) (*seal.State, error) {
	if b.Launch.State != drtm.Verified {
		return nil, notPossible("the next boot can't be computed from this one: %s", b.Launch.Reason)
	}
	things, err := drtm.Things(nil, &drtm.Boot{Kind: drtm.Linux, Image: f.Kernel, Initrd: f.Initrd, Line: f.CommandLine}, nil)
	if err != nil {
		return nil, fmt.Errorf("compute the next boot: %w", err)
	}
	next, err := drtm.Next(b.Log.Log, things)
	if err != nil {
		return nil, fmt.Errorf("compute the next boot: %w", err)
	}
	return b.state(next.Log, f.Label)
}

// state computes the state that a log leads to, in the banks that count: all
// that the TPM has, without SHA-1 where there is a better one.
func (b *Boot) state(log *eventlog.Log, label string) (*seal.State, error) {
	s := &seal.State{Label: label, PCRs: sealedPCRs, Measured: Measured(log)}
	replayed := drtm.Replay(log)
	for _, alg := range b.PCRs.Algs() {
		if alg == tpm.SHA1 && len(b.PCRs) > 1 {
			continue
		}
		bank := tpm.Bank{Alg: alg}
		bank.Reset(tpm.PCRSet(tpm.PCRHost), true)
		for _, p := range []tpm.PCR{tpm.PCRCode, tpm.PCRData} {
			if bank.Values[p] = replayed.Value(alg, p); bank.Values[p] == nil {
				return nil, notPossible("the log has no %s digests, and the TPM has that bank", alg)
			}
		}
		s.Values = append(s.Values, bank)
	}
	return s, nil
}

// Seal seals the kept secret to boot states and commits the record to the medium.
// It returns the record's generation.
func (m *Machine) Seal(h Home, states []seal.State, pin []byte) (uint64, error) {
	s, err := h.Setup()
	if err != nil {
		return 0, err
	}
	b, err := m.backend(s)
	if err != nil {
		return 0, err
	}
	if !h.has(secretFile) {
		return 0, ErrNoSecret
	}
	secret, err := h.fetch(secretFile, b)
	if err != nil {
		return 0, err
	}
	defer clear(secret)
	var credential []byte
	if h.has(credentialFile) {
		if credential, err = h.fetch(credentialFile, b); err != nil {
			return 0, err
		}
		defer clear(credential)
	}
	now, err := b.Generation()
	if err != nil {
		return 0, err
	}
	actual, err := m.Chip.ReadPCRs(sealedPCRs)
	if err != nil {
		return 0, err
	}
	r := &seal.Record{
		Kind: seal.KindText, PIN: len(pin) > 0, Generation: now + 1,
		Medium: s.medium, TPM: s.identity, States: states,
	}
	if err := seal.Seal(b, r, secret, pin); err != nil {
		return 0, err
	}
	return r.Generation, seal.Commit(s.Medium, b, r, actual, credential, nil)
}
