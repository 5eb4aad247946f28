package seal_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

func TestOpensInEachApprovedStateAndNoOther(t *testing.T) {
	eachFamily(t, func(t *testing.T, m *machine) {
		b := m.provision()
		dir := t.TempDir()
		r := m.record(b, "", "image", "next")
		m.must(seal.Commit(dir, b, r, m.values(), m.credential, nil))
		file := r.Bytes()
		m.wantOpen(file, "", nil)
		m.launch("next")
		m.wantOpen(file, "", nil)
		m.launch("evil")
		m.wantOpen(file, "", seal.ErrMeasurements)
		m.restart()
		m.wantOpen(file, "", seal.ErrMeasurements)
		m.launch("image")
		m.wantOpen(file, "", nil)
		m.extend(13, "cap")
		m.wantOpen(file, "", seal.ErrMeasurements)
	})
}

// A TPM is asked though the program was told that the PCRs fit: who lies about
// the PCRs' values gains nothing.
func TestTheTPMJudgesForItself(t *testing.T) {
	eachFamily(t, func(t *testing.T, m *machine) {
		b := m.provision()
		r := m.record(b, "", "image")
		m.must(b.Advance(r.Generation-1, m.credential))
		approved := m.values()
		m.launch("evil")
		if secret, err := r.Open(b, approved, nil); !errors.Is(err, seal.ErrMeasurements) {
			t.Errorf("with forged PCR values it gave %q, %v", secret, err)
		}
	})
}

func TestASupersededCopyIsDead(t *testing.T) {
	eachFamily(t, func(t *testing.T, m *machine) {
		b := m.provision()
		dir := t.TempDir()
		first := m.record(b, "", "image")
		m.must(seal.Commit(dir, b, first, m.values(), m.credential, nil))
		second := m.record(b, "", "image")
		m.must(seal.Commit(dir, b, second, m.values(), m.credential, nil))
		m.wantOpen(first.Bytes(), "", seal.ErrStale)
		m.wantOpen(second.Bytes(), "", nil)
	})
}

func TestPINIsAskedForAfterAllElseAndCounted(t *testing.T) {
	eachFamily(t, func(t *testing.T, m *machine) {
		b := m.provision()
		r := m.record(b, "2718", "image")
		m.must(seal.Commit(t.TempDir(), b, r, m.values(), m.credential, nil))
		m.wantOpen(r.Bytes(), "2718", nil)
		m.wantOpen(r.Bytes(), "3141", seal.ErrAuth)
		for range 100 {
			if _, err := m.try(r.Bytes(), "3141"); errors.Is(err, seal.ErrLockout) {
				m.wantOpen(r.Bytes(), "2718", seal.ErrLockout)
				return
			}
		}
		t.Error("a hundred wrong PINs, and the TPM takes more")
	})
}

func TestAnotherTPM(t *testing.T) {
	eachFamily(t, func(t *testing.T, m *machine) {
		b := m.provision()
		r := m.record(b, "", "image")
		m.must(seal.Commit(t.TempDir(), b, r, m.values(), m.credential, nil))
		other := newMachine(t, m.version)
		other.launch("image")
		other.wantOpen(r.Bytes(), "", seal.ErrOtherTPM)
		other.provision() // its own key and counter stand at the same places now
		other.launch("image")
		other.wantOpen(r.Bytes(), "", seal.ErrOtherTPM)
	})
}

func TestARecordOfTheOtherFamilyIsNamed(t *testing.T) {
	m := newMachine(t, tpm.V20)
	m.launch("image")
	b := m.provision()
	r := m.record(b, "", "image")
	r.Version = tpm.V12
	if _, err := r.Open(b, m.values(), nil); !errors.Is(err, seal.ErrOtherFamily) {
		t.Errorf("opening gave %v", err)
	}
}

func TestEveryBitCounts(t *testing.T) {
	eachFamily(t, func(t *testing.T, m *machine) {
		b := m.provision()
		r := m.record(b, "", "image")
		m.must(b.Advance(r.Generation-1, m.credential))
		file := r.Bytes()
		values := m.values()
		// The checksum finds every accident; here an attacker mends it, and what is
		// behind it must find the change.
		for i := range len(file) - sha256.Size {
			evil := append([]byte(nil), file...)
			evil[i] ^= 1
			sum := sha256.Sum256(evil[:len(evil)-sha256.Size])
			copy(evil[len(evil)-sha256.Size:], sum[:])
			rec, err := seal.Parse(evil)
			if err != nil {
				continue
			}
			backend, err := m.open(rec)
			if err != nil {
				continue
			}
			if secret, err := rec.Open(backend, values, nil); err == nil {
				t.Errorf("with a bit of byte %d flipped it opens to %q", i, secret)
			}
		}
		m.wantOpen(file, "", nil) // nothing was lost on the way
	})
}

func TestDamageIsNamedAtEachByteAndLength(t *testing.T) {
	m := newMachine(t, tpm.V20)
	m.launch("image")
	file := m.record(m.provision(), "", "image").Bytes()
	for i := range file {
		flipped := append([]byte(nil), file...)
		flipped[i] ^= 0x80
		if _, err := seal.Parse(flipped); !errors.Is(err, seal.ErrDamaged) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
		if _, err := seal.Parse(file[:i]); !errors.Is(err, seal.ErrDamaged) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
	if _, err := seal.Parse(append(file, 0)); !errors.Is(err, seal.ErrDamaged) {
		t.Error("a byte too many was taken")
	}
}

func TestBytesOfAParsedRecordAreTheSame(t *testing.T) {
	m := newMachine(t, tpm.V20)
	m.launch("image")
	file := m.record(m.provision(), "7", "image", "next").Bytes()
	r, err := seal.Parse(file)
	if err != nil || string(r.Bytes()) != string(file) {
		t.Errorf("%v; the bytes differ", err)
	}
}

func TestStatesThatNoLaunchLeadsToAreRefused(t *testing.T) {
	m := newMachine(t, tpm.V20)
	m.launch("image")
	b := m.provision()
	for name, spoil := range map[string]func(*tpm.Bank){
		"PCR 17 all ones":  func(b *tpm.Bank) { b.Reset(tpm.PCRSet(17), false) },
		"PCR 17 all zeros": func(b *tpm.Bank) { b.Reset(tpm.PCRSet(17), true) },
		"PCR 18 not known": func(b *tpm.Bank) { b.Values[18] = nil },
	} {
		s := stateOf(t, tpm.V20, "image")
		spoil(&s.Values[1])
		r := &seal.Record{Kind: seal.KindText, Generation: 2, States: []seal.State{s}}
		if err := seal.Seal(b, r, []byte(sentence), nil); err == nil {
			t.Errorf("a state with %s was sealed to", name)
		}
	}
}

func TestAFullMediumLosesNothing(t *testing.T) {
	if !testbed.Alone(t) {
		return
	}
	eachFamily(t, func(t *testing.T, m *machine) {
		b := m.provision()
		dir := t.TempDir()
		first := m.record(b, "", "image")
		m.must(seal.Commit(dir, b, first, m.values(), m.credential, nil))
		second := m.record(b, "", "image")
		// A file size limit stands in for a full medium: the write fails half-way.
		limit(t, 100, func() {
			if err := seal.Commit(dir, b, second, m.values(), m.credential, nil); err == nil {
				t.Error("the record was written past the limit")
			}
		})
		list, err := seal.Read(os.DirFS(dir))
		if err != nil || len(list) != 1 {
			t.Fatalf("the folder holds %d records, %v", len(list), err)
		}
		m.wantOpen(list[0].Bytes, "", nil)
	})
}

// limit bounds the size of files for the time of f.
func limit(t *testing.T, bytes uint64, f func()) {
	t.Helper()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: bytes, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old)
	f()
}

var steps = []seal.Step{
	seal.StepWritten, seal.StepSynced, seal.StepRenamed, seal.StepRehearsed, seal.StepAdvanced, seal.StepCleaned,
}

// Killed between any two steps of a commit, exactly one generation opens. The
// killing is real: another process does the commit and kills itself with SIGKILL.
func TestKilledAtEachStepOneGenerationOpens(t *testing.T) {
	eachFamily(t, func(t *testing.T, m *machine) {
		for _, step := range steps {
			t.Run(string(step), func(t *testing.T) {
				m := newMachine(t, m.version)
				m.launch("image")
				b := m.provision()
				dir := t.TempDir()
				first := m.record(b, "", "image")
				m.must(seal.Commit(dir, b, first, m.values(), m.credential, nil))
				second := m.record(b, "", "image")
				handed := filepath.Join(t.TempDir(), "second")
				m.must(os.WriteFile(handed, second.Bytes(), 0o600))
				m.conn.Close() // the emulator serves one client; the child is the next

				child := exec.Command(os.Args[0], "-test.run=^TestMain$")
				child.Env = append(os.Environ(), "KILL_AT="+string(step), "DIR="+dir, "RECORD="+handed,
					"SOCKET="+m.emulator.Socket(), "CREDENTIAL="+hex.EncodeToString(m.credential))
				out, err := child.CombinedOutput()
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
					t.Fatalf("the child was not killed: %v\n%s", err, out)
				}
				if m.conn, err = m.emulator.Connect(); err != nil {
					t.Fatal(err)
				}
				defer m.conn.Close()
				m.launch("image")
				m.wantExactlyOne(dir)
				// And the next sealing works from whatever was left behind.
				if b, err = m.open(first); err != nil {
					t.Fatal(err)
				}
				third := m.record(b, "", "image")
				m.must(seal.Commit(dir, b, third, m.values(), m.credential, nil))
				m.wantExactlyOne(dir)
			})
		}
	})
}

// wantExactlyOne checks that one record of the folder opens, and that Choose finds it.
func (m *machine) wantExactlyOne(dir string) {
	m.t.Helper()
	list, err := seal.Read(os.DirFS(dir))
	m.must(err)
	opened := 0
	for _, s := range list {
		if secret, err := m.try(s.Bytes, ""); err == nil && string(secret) == sentence {
			opened++
		}
	}
	if opened != 1 {
		m.t.Errorf("%d of %d generations open", opened, len(list))
	}
	r, b, err := seal.Choose(list, m.open)
	m.must(err)
	if secret, err := r.Open(b, m.values(), nil); err != nil || string(secret) != sentence {
		m.t.Errorf("the chosen record opens to %q, %v", secret, err)
	}
}

func TestADamagedLeftoverDoesNotHideTheGoodRecord(t *testing.T) {
	eachFamily(t, func(t *testing.T, m *machine) {
		b := m.provision()
		dir := t.TempDir()
		r := m.record(b, "", "image")
		m.must(seal.Commit(dir, b, r, m.values(), m.credential, nil))
		m.must(os.WriteFile(filepath.Join(dir, "record-00000000000000ff.aem"), []byte("half a rec"), 0o600))
		list, err := seal.Read(os.DirFS(dir))
		m.must(err)
		chosen, _, err := seal.Choose(list, m.open)
		if err != nil || chosen.Generation != r.Generation {
			t.Errorf("chosen was %v, %v", chosen, err)
		}
	})
}

func TestNoRecord(t *testing.T) {
	if _, err := seal.Read(os.DirFS(t.TempDir())); !errors.Is(err, seal.ErrNoRecord) {
		t.Errorf("an empty folder: %v", err)
	}
	if _, err := seal.Read(os.DirFS(filepath.Join(t.TempDir(), "absent"))); !errors.Is(err, seal.ErrNoRecord) {
		t.Errorf("an absent folder: %v", err)
	}
}

func TestARecordNeverHoldsTheSecretInClear(t *testing.T) {
	m := newMachine(t, tpm.V20)
	m.launch("image")
	if file := m.record(m.provision(), "2718281828", "image").Bytes(); strings.Contains(string(file), sentence) || strings.Contains(string(file), "2718281828") {
		t.Error("the record holds the secret or the PIN in clear")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{})
	r := seal.Record{Version: tpm.V20, Kind: seal.KindText}
	body := r.Bytes()
	f.Add(body[:len(body)-sha256.Size])
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := sha256.Sum256(body)
		file := append(append([]byte(nil), body...), sum[:]...)
		if r, err := seal.Parse(file); err == nil && string(r.Bytes()) != string(file) {
			t.Error("what was parsed does not write the same bytes")
		}
	})
}
