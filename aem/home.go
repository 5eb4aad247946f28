package aem

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/antievilmaid/aem/internal/durable"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// Home is the folder in the running system that remembers how the machine was
// set up. Everything in it that must not be known is sealed to the TPM, so a
// copy of the folder is worth nothing without the machine.
type Home struct{ dir string }

// DefaultHome is where the folder is in an installed system.
const DefaultHome = "/var/lib/aem"

// OpenHome names the folder. It need not exist yet.
func OpenHome(dir string) Home { return Home{dir} }

// Setup is what init found and made.
type Setup struct {
	Format   int         `json:"format"` // 2
	Family   tpm.Version `json:"tpm_family"`
	Identity HexBytes    `json:"tpm_identity"` // digest of the endorsement key
	Media    []*Medium   `json:"media"`
	Disks    []string    `json:"disks,omitempty"` // UUIDs of the LUKS volumes whose headers are measured
	identity [32]byte
}

// HexBytes is written in hexadecimal.
type HexBytes []byte

// MarshalText writes hexadecimal.
func (h HexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

// UnmarshalText reads hexadecimal.
func (h *HexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

const (
	setupFile    = "setup.json"
	secretFile   = "secret.aem"   // the secret, sealed to this TPM in any state; the record's kind is the secret's
	pinFile      = "pin.aem"      // its PIN, where it has one, sealed likewise
	approvedFile = "approved.aem" // the approved states, sealed likewise so that nobody changes them
	goodLogFile  = "launch.log"   // of the boot that was last sealed to
	formsFile    = "forms.json"   // in which form that launch hashed each file
)

// ErrNotSetUp says that aem-setup init was not run.
var ErrNotSetUp = errors.New("this machine is not set up yet; run aem-setup init")

// Setup reads what init left.
func (h Home) Setup() (*Setup, error) {
	b, err := os.ReadFile(filepath.Join(h.dir, setupFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotSetUp
	}
	if err != nil {
		return nil, fmt.Errorf("read the setup: %w", err)
	}
	var s Setup
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("read the setup in %s: %w", h.dir, err)
	}
	if s.Format != 2 || len(s.Identity) != len(s.identity) || len(s.Media) == 0 {
		return nil, fmt.Errorf("the setup in %s is not one that this program wrote", h.dir)
	}
	for _, m := range s.Media {
		if m == nil || len(m.ID) != len(seal.MediumID{}) {
			return nil, fmt.Errorf("the setup in %s names a medium that this program did not make", h.dir)
		}
	}
	copy(s.identity[:], s.Identity)
	return &s, nil
}

func (h Home) saveSetup(s *Setup) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return h.write(setupFile, append(b, '\n'))
}

// write puts a file into the folder, whole or not at all, and on the disk for
// good: what the TPM was told to remember must not be forgotten here.
func (h Home) write(name string, content []byte) error {
	if err := os.MkdirAll(h.dir, 0o700); err != nil {
		return fmt.Errorf("make the folder for the setup: %w", err)
	}
	path := filepath.Join(h.dir, name)
	if err := durable.Write(path, content, nil); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	// The folder's own name may be as new as the file's.
	return durable.Sync(filepath.Dir(h.dir))
}

// keep seals something to this TPM, in whatever state it is, and stores it.
func (h Home) keep(name string, kind seal.Kind, b seal.Backend, content []byte) error {
	r := &seal.Record{Kind: kind}
	if err := seal.Seal(b, r, content, nil); err != nil {
		return fmt.Errorf("seal %s to this TPM: %w", name, err)
	}
	return h.write(name, r.Bytes())
}

// fetch is the inverse of keep. The caller wipes what it returns.
func (h Home) fetch(name string, b seal.Backend) ([]byte, error) {
	content, _, err := h.fetchKind(name, b)
	return content, err
}

// fetchKind also says what it is, which the record's box vouches for.
func (h Home) fetchKind(name string, b seal.Backend) ([]byte, seal.Kind, error) {
	r, err := h.record(name)
	if err != nil {
		return nil, 0, err
	}
	content, err := r.Open(b, nil, nil)
	if err != nil {
		return nil, 0, fmt.Errorf("open %s: %w", name, err)
	}
	return content, r.Kind, nil
}

// record reads what keep wrote, without opening it.
func (h Home) record(name string) (*seal.Record, error) {
	file, err := os.ReadFile(filepath.Join(h.dir, name))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	r, err := seal.Parse(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return r, nil
}

// forget removes a file of the folder; one that is not there is no error.
func (h Home) forget(name string) error {
	if err := os.Remove(filepath.Join(h.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// has reports whether the folder holds a file.
func (h Home) has(name string) bool {
	_, err := os.Stat(filepath.Join(h.dir, name))
	return err == nil
}

// KeepLog remembers the launch log of a boot that its owner approved: later changes
// are explained against it, and the next launch is computed from it.
func (h Home) KeepLog(l *LaunchLog) error {
	b, err := l.Log.AppendTo(nil)
	if err != nil {
		return fmt.Errorf("keep the launch log: %w", err)
	}
	return h.write(goodLogFile, b)
}

// ErrNoGoodLog says that nothing was sealed to a launch on this machine yet.
var ErrNoGoodLog = errors.New("there is no log of an approved launch yet; aem-setup seal keeps one")

// GoodLog is the log that KeepLog kept.
func (h Home) GoodLog() (*LaunchLog, error) {
	if !h.has(goodLogFile) {
		return nil, ErrNoGoodLog
	}
	return ReadLog(filepath.Join(h.dir, goodLogFile))
}
