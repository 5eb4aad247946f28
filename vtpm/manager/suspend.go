package manager

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/emulator"
	"github.com/antievilmaid/aem/vtpm/measure"
)

// Image is a guest's memory in a file.
type Image struct {
	SHA256 [sha256.Size]byte // of all its bytes
	Name   string            // that the toolstack knows the guest by; no two that run have the same
}

// suspended is what the store has in the place of a state while the vTPM's guest lies in an image: PCRs and all else that a power cut
// would end, and whose they are. So it is bound to the vTPM, to the generation, and to the tree as a state is; and the next
// state that is stored, whatever the cause, takes its place. Who keeps an image, and starts the guest in
// any other way in between, has an image without PCRs.
type suspended struct {
	Format   int
	State    []byte // as ever
	Volatile []byte
	Image    Image
	// Launch is what the PCRs tell. Its Guest is the one that was suspended or, where a resume has begun, the one that was
	// built of the image. Neither may have a fresh TPM: its memory is older than that.
	Launch measure.Launch
}

const suspendedFormat = 1

// openSuspended reads what the store has as a vTPM's state; it is nil where the vTPM is not suspended. swtpm's own
// states begin with a number that is no brace.
func openSuspended(stored []byte) (*suspended, error) {
	if len(stored) == 0 || stored[0] != '{' {
		return nil, nil
	}
	var s suspended
	d := json.NewDecoder(bytes.NewReader(stored))
	d.DisallowUnknownFields() // a later version's, which may matter
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("read what was suspended: %w", err)
	}
	if s.Format != suspendedFormat {
		return nil, fmt.Errorf("read what was suspended: its format is %d, and this manager knows %d", s.Format, suspendedFormat)
	}
	return &s, nil
}

func (s *suspended) bytes() ([]byte, error) {
	s.Format = suspendedFormat
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("write down what is suspended: %w", err)
	}
	// JSON has no place for a command line that is not UTF-8: the next log would have another one.
	if again, err := openSuspended(b); err != nil || !reflect.DeepEqual(again, s) {
		return nil, errors.New("what the guest was started with can't be written down: its names or its command line are not all UTF-8")
	}
	return b, nil
}

// barred refuses the guest that an image has, or that was built of it in a resume that came to no end.
func (s *suspended) barred(g vtpm.Guest) error {
	if l := s.Launch.Guest; l.Domain == g.Domain && l.Birth == g.Birth {
		return fmt.Errorf("%w: destroy this guest, which is not the one that goes on, and resume it (vtpmctl resume)", ErrSuspended)
	}
	return nil
}

// Suspend puts a vTPM to sleep whose guest is held, and is in an image to the last byte: it will not run again but from
// that. In one commit the store has PCRs and digest; before, nothing has happened, and the guest can go on.
func (m *Manager) Suspend(ctx context.Context, u vtpm.UUID, domain string, image Image) error {
	m.mu.Lock()
	r := m.running[u]
	m.mu.Unlock()
	if r == nil {
		return fmt.Errorf("suspend the vTPM %s: %w", u, ErrGone)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || r.emulator == nil || r.guest.Domain != domain {
		return fmt.Errorf("suspend the vTPM %s: %w", u, ErrGone)
	}
	s := suspended{Image: image, Launch: *r.launch}
	err := r.emulator.Suspend(ctx, func(state, volatile []byte) error {
		s.State, s.Volatile = state, volatile
		b, err := s.bytes()
		if err != nil {
			return err
		}
		return m.Store.PutState(u, r.generation+1, b)
	})
	if err != nil {
		return fmt.Errorf("suspend the vTPM %s: %w", u, err)
	}
	r.ended, r.session = true, nil
	<-r.ownerless
	r.letGo()
	r.tell("suspended", fmt.Sprintf("its guest %s is in an image with the SHA-256 digest %x", image.Name, image.SHA256))
	r.forget()
	return nil
}

// wakeAndStop ends a suspended vTPM in order, which another start is about to take from its image: it has
// been without power since, and would count that against its owner. What can't be woken is started as
// after a power cut.
func (m *Manager) wakeAndStop(ctx context.Context, s *suspended, cfg emulator.Config) (state []byte) {
	cfg.State, cfg.Volatile, cfg.Outlives = s.State, s.Volatile, false
	e, err := m.Emulators.Start(ctx, cfg)
	if err != nil {
		return s.State
	}
	defer e.Kill()
	if e.Resume(ctx) != nil || e.Stop(ctx) != nil {
		return s.State
	}
	return e.State()
}

// Suspended is the image that a vTPM's guest is in; nil where it is in none.
func (m *Manager) Suspended(u vtpm.UUID) (*Image, error) {
	r, err := m.Store.Get(u)
	if err != nil {
		return nil, err
	}
	defer r.Wipe()
	s, err := openSuspended(r.State)
	if s == nil {
		return nil, err
	}
	return &s.Image, nil
}
