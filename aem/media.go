package aem

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/antievilmaid/aem/seal"
)

// Medium is where a sealed record lies: the boot partition, or a stick that its
// owner carries. Each has a counter of its own in the TPM, so that one can be
// revoked without the others.
type Medium struct {
	Name   string   `json:"name"`
	ID     HexBytes `json:"id"`     // in its records, so that a copy on another medium is noticed
	Anchor HexBytes `json:"anchor"` // the storage key, and this medium's counter
	// Records is the folder of its records in the running system: where it is mounted,
	// or, for a stick, was when it was added.
	Records string `json:"records"`
	UUID    string `json:"uuid,omitempty"` // of a stick's file system
	// Revoked says that its counter was moved on: no copy of it opens any more.
	Revoked bool      `json:"revoked,omitempty"`
	Added   time.Time `json:"added"`
	// Missed says that a sealing has not reached it: it may open for the right states and
	// show the secret, or ask for the PIN, from before.
	Missed bool `json:"missed_sealing,omitempty"`
}

// BootNames are how an initramfs finds the media that open, by the UUIDs of their file
// systems: the sticks first, because who plugs one in wants it to be read.
func (s *Setup) BootNames() ([]string, error) {
	var sticks, fixed []string
	for _, m := range s.active() {
		if m.UUID != "" {
			sticks = append(sticks, uuidPrefix+m.UUID)
			continue
		}
		uuid := FileSystemUUID(m.Records)
		if uuid == "" {
			return nil, fmt.Errorf("the file system that holds %s has no UUID by which a boot could find it: %w", m.Records, ErrNotPossible)
		}
		fixed = append(fixed, uuidPrefix+uuid)
	}
	return append(sticks, fixed...), nil
}

// FileSystemUUID is the UUID of the file system that holds a file, empty where udev
// knows none.
func FileSystemUUID(path string) string {
	return diskName("/dev/disk/by-uuid", deviceOf(path))
}

// folder is where the medium's records are now: a stick may be mounted elsewhere than
// when it was added.
func (m *Medium) folder() string {
	if m.UUID == "" {
		return m.Records
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return m.Records
	}
	if at := mountedAt(mounts, rdevOf(filepath.Join("/dev/disk/by-uuid", m.UUID))); at != "" {
		return filepath.Join(at, RecordsFolder)
	}
	return m.Records
}

func (m *Medium) id() (id seal.MediumID) {
	copy(id[:], m.ID)
	return id
}

// credentialFile holds what moves the medium's counter, sealed to this TPM.
func (m *Medium) credentialFile() string { return fmt.Sprintf("credential-%x.aem", []byte(m.ID[:4])) }

// Errors of media.
var (
	ErrNoSuchMedium = errors.New("no medium has that name")
	ErrMediumAway   = errors.New("the medium is not mounted")
	ErrMediumName   = errors.New("another medium has that name")
	ErrLastMedium   = errors.New("it is the last medium that opens; nothing would be left to prove the machine with")
)

// Medium is the medium of a name.
func (s *Setup) Medium(name string) (*Medium, error) {
	for _, m := range s.Media {
		if m.Name == name {
			return m, nil
		}
	}
	return nil, fmt.Errorf("%w: %q", ErrNoSuchMedium, name)
}

// anchor finds the key that keeps what lies in the home folder: that of the first medium.
func (s *Setup) anchor() []byte { return s.Media[0].Anchor }

// active are the media that were not revoked.
func (s *Setup) active() []*Medium {
	var list []*Medium
	for _, m := range s.Media {
		if !m.Revoked {
			list = append(list, m)
		}
	}
	return list
}

// backend opens the TPM's part for a medium.
func (m *Machine) backend(s *Setup, anchor []byte) (seal.Backend, error) {
	if s.Family != m.Chip.Version() {
		return nil, fmt.Errorf("%w: it was set up with a %s and has a %s", seal.ErrOtherFamily, s.Family, m.Chip.Version())
	}
	return m.Chip.Backend(anchor)
}

// enrol makes a medium of a folder and of the counter that the TPM was prepared with.
func (m *Machine) enrol(h Home, name, folder, uuid string, b seal.Backend, credential []byte) (*Medium, error) {
	records := filepath.Join(folder, RecordsFolder)
	if err := os.MkdirAll(records, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder for records on the medium: %w", err)
	}
	var id seal.MediumID
	rand.Read(id[:])
	medium := &Medium{Name: name, ID: id[:], Anchor: b.Anchor(), Records: records, UUID: uuid, Added: m.Now().UTC().Truncate(time.Second)}
	if len(credential) > 0 {
		if err := h.keep(medium.credentialFile(), seal.KindCredential, b, credential); err != nil {
			return nil, err
		}
	}
	return medium, nil
}

// credential is what moves a medium's counter. The caller wipes it.
func (m *Machine) credential(h Home, medium *Medium, b seal.Backend) ([]byte, error) {
	if !h.has(medium.credentialFile()) {
		return nil, nil
	}
	return h.fetch(medium.credentialFile(), b)
}

// AddMedium prepares a further medium, whose folder in the running system is given,
// and seals the secret to it as it is sealed to the others.
func (m *Machine) AddMedium(h Home, name, folder, uuid string) (*Medium, error) {
	s, err := h.Setup()
	if err != nil {
		return nil, err
	}
	if _, err := s.Medium(name); err == nil || name == "" {
		return nil, fmt.Errorf("%w: %q", ErrMediumName, name)
	}
	records := filepath.Join(folder, RecordsFolder)
	if slices.ContainsFunc(s.Media, func(x *Medium) bool { return x.Records == records && !x.Revoked }) {
		return nil, fmt.Errorf("%s is a medium already", folder)
	}
	first, err := m.backend(s, s.anchor())
	if err != nil {
		return nil, err
	}
	known, err := m.credential(h, s.Media[0], first)
	if err != nil {
		return nil, err
	}
	defer clear(known)
	b, credential, err := m.Chip.ProvisionMore(known)
	if err != nil {
		return nil, fmt.Errorf("prepare the TPM for one more medium: %w", err)
	}
	defer clear(credential)
	medium, err := m.enrol(h, name, folder, uuid, b, credential)
	if err != nil {
		return nil, err
	}
	s.Media = append(s.Media, medium)
	if err := h.saveSetup(s); err != nil {
		return nil, err
	}
	states, err := m.Approved(h)
	if errors.Is(err, ErrNothingApproved) {
		return medium, nil
	}
	if err != nil {
		return nil, err
	}
	_, err = m.sealTo(h, s, medium, states)
	return medium, err
}

// RenameMedium gives a medium another name.
func (h Home) RenameMedium(from, to string) error {
	s, err := h.Setup()
	if err != nil {
		return err
	}
	if err := s.Rename(from, to); err != nil {
		return err
	}
	return h.saveSetup(s)
}

// Rename gives a medium another name, in memory alone.
func (s *Setup) Rename(from, to string) error {
	medium, err := s.Medium(from)
	if err != nil {
		return err
	}
	if _, err := s.Medium(to); err == nil || to == "" {
		return fmt.Errorf("%w: %q", ErrMediumName, to)
	}
	medium.Name = to
	return nil
}

// Revoke makes a medium worthless, wherever it is: its counter moves on, so the TPM
// itself refuses every copy of it. It need not be at hand.
func (m *Machine) Revoke(h Home, name string) error {
	s, err := h.Setup()
	if err != nil {
		return err
	}
	medium, err := s.Medium(name)
	if err != nil {
		return err
	}
	if medium.Revoked {
		return nil
	}
	if active := s.active(); len(active) == 1 {
		return fmt.Errorf("revoke %q: %w", name, ErrLastMedium)
	}
	b, err := m.backend(s, medium.Anchor)
	if err != nil {
		return err
	}
	credential, err := m.credential(h, medium, b)
	if err != nil {
		return err
	}
	defer clear(credential)
	now, err := b.Generation()
	if err != nil {
		return err
	}
	if err := b.Advance(now, credential); err != nil {
		return fmt.Errorf("move the counter of %q on: %w", name, err)
	}
	medium.Revoked = true
	return h.saveSetup(s)
}

// RemoveMedium revokes a medium and gives its counter back to the TPM. What cannot
// be found there any more opens nothing, either.
func (m *Machine) RemoveMedium(h Home, name string) error {
	if err := m.Revoke(h, name); err != nil {
		return err
	}
	s, err := h.Setup()
	if err != nil {
		return err
	}
	medium, err := s.Medium(name)
	if err != nil {
		return err
	}
	if medium == s.Media[0] {
		// Its key keeps what lies in the home folder; only its counter is not used any more.
		return nil
	}
	if err := m.giveBack(h, s, medium); err != nil {
		return err
	}
	s.Media = slices.DeleteFunc(s.Media, func(x *Medium) bool { return x == medium })
	return h.saveSetup(s)
}

// giveBack removes a medium's counter from the TPM and its records where they are. A TPM
// that was cleared since, or exchanged, has nothing that could be given back: what lies
// at the same index of another one is somebody else's.
func (m *Machine) giveBack(h Home, s *Setup, medium *Medium) error {
	if err := m.removeCounter(h, s, medium); err != nil && !isOtherTPM(err) {
		return fmt.Errorf("remove the counter of %q from the TPM: %w", medium.Name, err)
	}
	if err := os.RemoveAll(medium.folder()); err != nil {
		return fmt.Errorf("remove the records of %q: %w", medium.Name, err)
	}
	return h.forget(medium.credentialFile())
}

func (m *Machine) removeCounter(h Home, s *Setup, medium *Medium) error {
	b, err := m.backend(s, medium.Anchor)
	if err != nil {
		return err
	}
	if err := b.Check(); err != nil {
		return err
	}
	credential, err := m.credential(h, medium, b)
	if err != nil {
		return err
	}
	defer clear(credential)
	return b.Remove(credential)
}

// isOtherTPM reports whether this is not the TPM that the machine was set up with, or not
// any more.
func isOtherTPM(err error) bool {
	return errors.Is(err, seal.ErrOtherTPM) || errors.Is(err, seal.ErrOtherFamily)
}

// MediumStatus is a medium as a list shows it.
type MediumStatus struct {
	Medium
	Present    bool   `json:"present"`              // its records are at hand
	Generation uint64 `json:"generation,omitempty"` // of the record that opens
	Behind     bool   `json:"behind,omitempty"`     // a sealing since it was sealed has not reached it
	Problem    string `json:"problem,omitempty"`
}

// MediaStatus lists the media and what is on those that are at hand.
func (m *Machine) MediaStatus(h Home) ([]MediumStatus, error) {
	s, err := h.Setup()
	if err != nil {
		return nil, err
	}
	approved, unknown := m.Approved(h)
	if errors.Is(unknown, ErrNothingApproved) {
		unknown = nil
	}
	if unknown != nil && !isOtherTPM(unknown) {
		return nil, unknown
	}
	var list []MediumStatus
	for _, medium := range s.Media {
		st := MediumStatus{Medium: *medium}
		records, err := seal.Read(os.DirFS(medium.folder()))
		switch {
		case errors.Is(err, seal.ErrNoRecord):
			_, serr := os.Stat(medium.folder())
			st.Present = serr == nil
		case err != nil:
			st.Problem = err.Error()
		case unknown != nil:
			// Cleared or exchanged: there is nothing to compare with, and still something to list.
			st.Present, st.Problem = true, unknown.Error()
		default:
			st.Present = true
			m.look(s, medium, records, approved, &st)
		}
		list = append(list, st)
	}
	return list, nil
}

// look finds the record that opens on a medium.
func (m *Machine) look(s *Setup, medium *Medium, records []seal.Stored, approved []seal.State, st *MediumStatus) {
	if medium.Revoked {
		return
	}
	record, _, err := seal.Choose(records, func(r *seal.Record) (seal.Backend, error) { return m.backend(s, medium.Anchor) })
	switch {
	case err != nil:
		st.Problem = err.Error()
	case record.Medium != medium.id():
		st.Problem = "its record was made for another medium"
	default:
		st.Generation = record.Generation
		st.Behind = medium.Missed || !sameStates(record.States, approved)
	}
}

// Behind names the media that are at hand and were not reached by the last sealing: it
// was cut short, or they were away. Sync brings them up to date.
func (m *Machine) Behind(h Home) ([]string, error) {
	list, err := m.MediaStatus(h)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, st := range list {
		if st.Present && !st.Revoked && (st.Behind || st.Generation == 0) {
			names = append(names, st.Name)
		}
	}
	return names, nil
}
