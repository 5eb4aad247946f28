package emulator

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
)

// KeySize is the size of a vTPM's key in bytes (AES-256).
const KeySize = 32

var (
	// ErrEnded: the process is gone, and the guest's TPM with it. What it had not written is lost.
	ErrEnded = errors.New("the vTPM's emulator has ended")
	// ErrOff: the TPM is not powered on, or is shut down already.
	ErrOff = errors.New("the vTPM is switched off")
	// ErrState: swtpm did not take the state for its own: another key's, another family's, damaged, or none.
	ErrState = errors.New("the vTPM's state can't be read with its key; no other identity is made in its place")
)

// Config says which vTPM to start.
type Config struct {
	Version tpm.Version
	Key     []byte // KeySize bytes; the caller's to wipe
	State   []byte // the permanent state, as State returned it last; none for Create
	// Volatile is what Suspend returned together with State: the TPM goes on where it was.
	Volatile []byte
	// UID and GID are those of the process, and of no other. They count where the manager is root.
	UID, GID uint32
	// Outlives says that somebody keeps the emulator's descriptors ([Emulator.Files]), so that it lives on when
	// the manager dies. It ends when nobody has them any more.
	Outlives bool
}

// Emulator is a running swtpm. Its methods may be called from several goroutines.
type Emulator struct {
	version tpm.Version
	process process
	said    lastLine
	control *swtpm.Control
	data    *swtpm.Data

	turn   chan struct{} // holds a token while somebody works with what stands below
	on     bool
	asleep bool // a volatile state is there for the next power-on
	at     tpm.Locality
	folder *folder

	done  chan struct{} // closed when the process has ended; ended is set then
	ended error
	gone  chan struct{} // closed when all that was the process's is gone, too
}

// patience is how long one command may take. RSA keys take seconds, and many of them on a machine under load.
const patience = 10 * time.Minute

func (h *Host) check(cfg Config) error {
	switch {
	case !h.can.emulates(cfg.Version):
		return fmt.Errorf("start a vTPM: this swtpm does not emulate a %v", cfg.Version)
	case len(cfg.Key) != KeySize:
		return fmt.Errorf("start a vTPM: its key has %d bytes in place of %d", len(cfg.Key), KeySize)
	case h.root && (cfg.UID == 0 || cfg.GID == 0):
		return errors.New("start a vTPM: its emulator needs a user and a group of its own, not root's")
	}
	return nil
}

// Start starts the emulator of a vTPM that exists. The TPM is off: [Emulator.PowerOn] or, with Config.Volatile,
// [Emulator.Resume] comes next.
func (h *Host) Start(ctx context.Context, cfg Config) (*Emulator, error) {
	if err := h.check(cfg); err != nil {
		return nil, err
	}
	if len(cfg.State) == 0 {
		// swtpm would make a TPM with other keys, and the guest would never know why its own
		// secrets are gone.
		return nil, fmt.Errorf("start a vTPM: it has no state: %w", ErrState)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e, err := h.spawn(cfg)
	if err != nil {
		return nil, fmt.Errorf("start a vTPM: %w", err)
	}
	// Only now, while it is off.
	if err := e.controlled(func() error { return e.control.SetBufferSize(vtpm.BufferSize) }); err != nil {
		e.Kill()
		return nil, fmt.Errorf("start a vTPM: %w", err)
	}
	return e, nil
}

// State is the permanent state as it was after the last command that changed it, encrypted with the vTPM's
// key by swtpm. It remains after the emulator's end.
func (e *Emulator) State() []byte {
	e.turn <- struct{}{}
	defer e.release()
	return e.folder.state
}

// Done is closed when the process has ended.
func (e *Emulator) Done() <-chan struct{} { return e.done }

// Kill ends the process as a power cut would, and returns when it is gone.
func (e *Emulator) Kill() {
	e.process.kill()
	<-e.done
}

// Execute runs one command of the guest's at a locality from 0 to 3. Commands run one after the other;
// ctx ends the wait for the turn, not a command that has begun. changed says that the
// permanent state is another one now: the answer must not reach the guest before [Emulator.State] is
// safe. An error is ErrEnded, ErrOff or the context's, or says that command is none: vtpm/filter
// lets no such one through.
func (e *Emulator) Execute(ctx context.Context, at tpm.Locality, command []byte) (rsp []byte, changed bool, err error) {
	if err := e.take(ctx); err != nil {
		return nil, false, err
	}
	defer e.release()
	if !e.on {
		return nil, false, ErrOff
	}
	return e.execute(at, command)
}

// Cancel passes on that nobody waits for the command under way any more. swtpm's socket interface
// answers when that command has ended, and ends none early: see [swtpm.Control.Cancel].
func (e *Emulator) Cancel() error {
	return e.controlled(e.control.Cancel)
}

// take waits for the turn.
func (e *Emulator) take(ctx context.Context) error {
	select {
	case <-e.done: // first, because a free turn would win half the time
		return e.ended
	default:
	}
	select {
	case e.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-e.done:
		return e.ended
	}
}

func (e *Emulator) release() { <-e.turn }

// execute is Execute for who has the turn.
func (e *Emulator) execute(at tpm.Locality, command []byte) ([]byte, bool, error) {
	// swtpm waits for as many bytes as the header claims.
	if n := len(command); n < 10 || n > vtpm.BufferSize || binary.BigEndian.Uint32(command[2:]) != uint32(n) {
		return nil, false, fmt.Errorf("run a vTPM's command: its %d bytes are no command", n)
	}
	if at > 3 {
		return nil, false, fmt.Errorf("run a vTPM's command: locality %d is not for commands", at)
	}
	watch := time.AfterFunc(patience, func() { e.process.kill() })
	defer watch.Stop()
	if at != e.at {
		if err := e.control.SetLocality(at); err != nil {
			return nil, false, e.broken(err)
		}
		e.at = at
	}
	rsp, err := e.data.Send(command)
	if err == nil && len(rsp) > vtpm.BufferSize {
		err = fmt.Errorf("it answered with %d bytes", len(rsp))
	}
	if err != nil {
		return nil, false, e.broken(err)
	}
	changed, err := e.folder.refresh()
	if err != nil {
		return nil, false, e.broken(err)
	}
	return rsp, changed, nil
}

// controlled does a request on the control socket, with an end to its patience.
func (e *Emulator) controlled(request func() error) error {
	watch := time.AfterFunc(patience, func() { e.process.kill() })
	defer watch.Stop()
	err := request()
	var refused *swtpm.ResultError
	if err == nil || errors.As(err, &refused) {
		return err
	}
	return e.broken(err)
}

// broken ends an emulator that can't be spoken to or relied on any more, and says why.
func (e *Emulator) broken(cause error) error {
	e.Kill()
	return fmt.Errorf("%w: %w", e.ended, cause)
}
