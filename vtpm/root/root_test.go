package root_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
	"github.com/antievilmaid/aem/tpm2"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/root"
	"github.com/antievilmaid/aem/vtpm/store"
)

// The manager hands over what aem has.
var _ root.Chip = aem.Chip(nil)

// server is a machine that runs guests: an emulated TPM, a launch, a folder.
type server struct {
	t       *testing.T
	conn    *swtpm.TPM
	version tpm.Version
	dir     string
}

func eachFamily(t *testing.T, test func(*testing.T, *server)) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) { test(t, newServer(t, v)) })
	}
}

// newServer is a server that was launched with the line "approved".
func newServer(t *testing.T, v tpm.Version) *server {
	conn, _ := testbed.NewTPM(t, v)
	return serverWith(t, v, conn)
}

func serverWith(t *testing.T, v tpm.Version, conn *swtpm.TPM) *server {
	s := &server{t: t, conn: conn, version: v, dir: t.TempDir()}
	s.launch("approved")
	return s
}

func (s *server) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) restart() {
	s.t.Helper()
	s.must(testbed.PowerOff(s.conn, s.version))
	s.must(testbed.PowerOn(s.conn, s.version))
}

// launch restarts the machine and launches Linux with a command line.
func (s *server) launch(line string) {
	s.t.Helper()
	s.restart()
	l := testbed.SampleLaunch(drtm.TXT, s.version)
	l.CommandLine = line
	_, err := testbed.LaunchLinux(s.conn, l)
	s.must(err)
}

func (s *server) ReadPCRs(set tpm.PCRs) (tpm.Banks, error) {
	if s.version == tpm.V12 {
		return tpm12.New(s.conn).ReadPCRs(set)
	}
	return tpm2.New(s.conn).ReadPCRs(set)
}

func (s *server) Backend(anchor []byte) (seal.Backend, error) {
	if s.version == tpm.V12 {
		return seal.OpenTPM12(tpm12.New(s.conn), anchor)
	}
	return seal.OpenTPM2(tpm2.New(s.conn), anchor)
}

// provision prepares the TPM for a store.
func (s *server) provision() (seal.Backend, []byte) {
	s.t.Helper()
	if s.version == tpm.V12 {
		b, c, err := seal.ProvisionTPM12(tpm12.New(s.conn), nil)
		s.must(err)
		return b, c.Bytes()
	}
	b, err := seal.ProvisionTPM2(tpm2.New(s.conn), nil)
	s.must(err)
	return b, nil
}

// state is what PCRs hold now, in all banks but SHA-1 where there is a better one.
func (s *server) state(label string, pcrs ...tpm.PCR) seal.State {
	s.t.Helper()
	set := tpm.PCRSet(pcrs...)
	banks, err := s.ReadPCRs(set)
	s.must(err)
	state := seal.State{Label: label, PCRs: set}
	for _, b := range banks {
		if b.Alg != tpm.SHA1 || len(banks) == 1 {
			state.Values = append(state.Values, b)
		}
	}
	return state
}

func (s *server) launched(label string) root.Policy {
	return root.Policy{States: []seal.State{s.state(label, 17, 18)}}
}

func (s *server) create() *root.Root {
	s.t.Helper()
	b, credential := s.provision()
	r, err := root.Create(s.folder(), s, b, credential, s.launched("approved"))
	s.must(err)
	s.t.Cleanup(r.Close)
	return r
}

func (s *server) folder() string { return filepath.Join(s.dir, "root") }
func (s *server) path() string   { return filepath.Join(s.dir, "vtpms") }

func (s *server) open() *root.Root {
	s.t.Helper()
	r, err := root.Open(s.folder(), s)
	s.must(err)
	s.t.Cleanup(r.Close)
	return r
}

// want tries to open the root.
func (s *server) want(reason error) {
	s.t.Helper()
	if r, err := root.Open(s.folder(), s); !errors.Is(err, reason) || r != nil {
		s.t.Errorf("opening gave %v; want: %v", err, reason)
	}
}

func key(t *testing.T, r *root.Root) []byte {
	t.Helper()
	k, err := r.Key()
	if err != nil || len(k) != store.KeySize {
		t.Fatalf("a key of %d bytes, %v", len(k), err)
	}
	return k
}

func TestTheKeyOpensInTheApprovedLaunchAlone(t *testing.T) {
	eachFamily(t, func(t *testing.T, s *server) {
		first := key(t, s.create())
		s.launch("approved")
		if again := key(t, s.open()); !bytes.Equal(first, again) {
			t.Error("it is another key")
		}
		s.launch("evil")
		s.want(seal.ErrMeasurements)
		if _, err := root.Open(s.folder(), s); err == nil || !strings.Contains(err.Error(), `"approved"`) || !strings.Contains(err.Error(), "PCRs 1") {
			t.Errorf("the cause is told as: %v", err)
		}
		s.restart()
		s.want(seal.ErrMeasurements)
		s.launch("approved")
		if again := key(t, s.open()); !bytes.Equal(first, again) {
			t.Error("it is another key")
		}
	})
}

func TestOpeningMakesNothing(t *testing.T) {
	s := newServer(t, tpm.V20)
	s.want(seal.ErrNoRecord)
	s.create()
	b, credential := s.provision()
	if _, err := root.Create(s.folder(), s, b, credential, s.launched("approved")); !errors.Is(err, root.ErrExists) {
		t.Errorf("made twice: %v", err)
	}
}

func TestAdvanceKillsTheRecordBeforeIt(t *testing.T) {
	eachFamily(t, func(t *testing.T, s *server) {
		r := s.create()
		old := t.TempDir()
		s.must(os.CopyFS(filepath.Join(old, "root"), os.DirFS(s.folder())))
		before, err := r.Epoch()
		s.must(err)
		s.must(r.Advance(before))
		if now, err := r.Epoch(); err != nil || now != before+1 {
			t.Errorf("the epoch went from %d to %d, %v", before, now, err)
		}
		if err := r.Advance(before); err == nil {
			t.Error("it advanced from an epoch that is past")
		}
		if again := key(t, s.open()); !bytes.Equal(again, key(t, r)) {
			t.Error("it is another key")
		}
		s.dir = old
		s.want(seal.ErrStale)
	})
}

func TestApprovedStatesAreInForceAfterTheNextEpoch(t *testing.T) {
	eachFamily(t, func(t *testing.T, s *server) {
		s.launch("next")
		next := s.launched("next")
		s.launch("approved")
		r := s.create()
		both := root.Policy{States: append(r.Policy().States, next.States...)}
		s.must(r.Approve(both))
		s.launch("next")
		s.want(seal.ErrMeasurements)
		s.advance(r)
		s.open()
		s.launch("approved")
		r = s.open()
		s.must(r.Approve(next))
		s.advance(r)
		s.want(seal.ErrMeasurements)
		s.launch("next")
		s.open()
	})
}

func (s *server) advance(r *root.Root) {
	s.t.Helper()
	now, err := r.Epoch()
	s.must(err)
	s.must(r.Advance(now))
}

func TestTheStaticRootIsAChoiceThatShows(t *testing.T) {
	eachFamily(t, func(t *testing.T, s *server) {
		digests := tpm.SumAll([]tpm.Alg{tpm.SHA1, tpm.SHA256, tpm.SHA384, tpm.SHA512}, []byte("firmware"))
		if s.version == tpm.V12 {
			digests = digests[:1]
		}
		s.must(testbed.Extend(s.conn, s.version, 0, 0, digests))
		static := root.Policy{States: []seal.State{s.state("firmware", 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)}}
		b, credential := s.provision()
		if _, err := root.Create(s.folder(), s, b, credential, static); !errors.Is(err, root.ErrNoLaunch) {
			t.Errorf("made without a choice: %v", err)
		}
		static.Static = true
		for name, p := range map[string]root.Policy{
			"a resettable PCR": {States: []seal.State{s.state("x", 16)}, Static: true},
			"PCR 17 alone":     {States: []seal.State{s.state("x", 17)}},
			"no state":         {Static: true},
			"firmware alone":   {States: []seal.State{s.state("x", 0, 1, 2, 3, 4, 5, 6, 7)}, Static: true},
		} {
			if _, err := root.Create(s.folder(), s, b, credential, p); err == nil {
				t.Errorf("made for %s", name)
			}
		}
		r, err := root.Create(s.folder(), s, b, credential, static)
		s.must(err)
		if !r.Policy().Static || !s.open().Policy().Static {
			t.Error("nobody says that it rests on the static root")
		}
		s.must(r.Approve(s.launched("approved")))
		s.advance(r)
		if s.open().Policy().Static {
			t.Error("it rests on a launch now")
		}
	})
}

var guest = &store.Record{
	UUID: vtpm.NewUUID(), Family: tpm.V20, Key: make([]byte, store.KeySize), State: []byte("state 1"),
	Created: time.Unix(1, 0), Changed: time.Unix(1, 0),
}

// filled makes a store with a vTPM on a new root, and returns its file as it was before
// the last epoch.
func (s *server) filled() (r *root.Root, old []byte) {
	s.t.Helper()
	r = s.create()
	s.must(store.Create(s.path(), r))
	st, err := store.Open(s.path(), r)
	s.must(err)
	s.must(st.Add(guest))
	old, err = os.ReadFile(s.path())
	s.must(err)
	s.must(st.NextEpoch())
	s.must(st.PutState(guest.UUID, 2, []byte("state 2")))
	s.must(st.Close())
	return r, old
}

// wantStore opens the store and finds the vTPM's second state; then it puts the old file
// in place, which must be refused.
func (s *server) wantStore(r *root.Root, old []byte) {
	s.t.Helper()
	st, err := store.Open(s.path(), r)
	s.must(err)
	if g, err := st.Get(guest.UUID); err != nil || string(g.State) != "state 2" {
		s.t.Errorf("%+v, %v", g, err)
	}
	s.must(st.Close())
	good, err := os.ReadFile(s.path())
	s.must(err)
	s.must(os.WriteFile(s.path(), old, 0o600))
	if _, err := store.Open(s.path(), r); !errors.Is(err, store.ErrRolledBack) {
		s.t.Errorf("an old store: %v", err)
	}
	s.must(os.WriteFile(s.path(), good, 0o600))
}

func TestAStoreRestsOnTheTPM(t *testing.T) {
	eachFamily(t, func(t *testing.T, s *server) {
		r, old := s.filled()
		epoch, err := r.Epoch()
		s.must(err)
		r.Close()
		s.launch("evil")
		s.want(seal.ErrMeasurements)
		s.launch("approved")
		r = s.open()
		if now, err := r.Epoch(); err != nil || now != epoch {
			t.Errorf("the counter moved from %d to %d, %v", epoch, now, err)
		}
		s.wantStore(r, old)
		if now, err := r.Epoch(); err != nil || now != epoch+1 {
			t.Errorf("a start without a commit moved the counter from %d to %d, %v", epoch, now, err)
		}
	})
}

func TestTheEscrowOpensAMachineThatWasChanged(t *testing.T) {
	eachFamily(t, func(t *testing.T, s *server) {
		r, old := s.filled()
		escrow, err := r.Escrow()
		s.must(err)
		epoch, err := r.Epoch()
		s.must(err)
		s.launch("changed")
		s.want(seal.ErrMeasurements)

		other := bytes.Clone(escrow)
		other[9] ^= 1 // another store's
		if _, err := root.Recover(s.folder(), s, other, s.launched("changed")); err == nil {
			t.Error("another store's key was taken")
		}
		if r, err = root.Recover(s.folder(), s, escrow, s.launched("changed")); err != nil {
			t.Fatal(err)
		}
		if now, err := r.Epoch(); err != nil || now != epoch {
			t.Errorf("the counter moved from %d to %d, %v", epoch, now, err)
		}
		s.wantStore(s.open(), old)
		s.launch("approved") // which was not approved again
		s.want(seal.ErrMeasurements)

		s.must(os.RemoveAll(s.folder()))
		s.launch("changed")
		if _, err := root.Recover(s.folder(), s, escrow, s.launched("changed")); err != nil {
			t.Fatal(err)
		}
		s.wantStore(s.open(), old)
	})
}

func TestTheEscrowMovesAStoreToAnotherTPM(t *testing.T) {
	eachFamily(t, func(t *testing.T, s *server) {
		r, _ := s.filled()
		escrow, err := r.Escrow()
		s.must(err)
		id, err := r.ID()
		s.must(err)

		conn, _ := testbed.NewForeignTPM(t, s.version)
		next := serverWith(t, s.version, conn)
		next.must(os.CopyFS(next.dir, os.DirFS(s.dir)))
		next.want(seal.ErrOtherTPM)
		if _, err := root.Recover(next.folder(), next, escrow, next.launched("approved")); !errors.Is(err, seal.ErrOtherTPM) {
			t.Errorf("recovered on another TPM: %v", err)
		}
		next.must(os.RemoveAll(next.folder()))
		b, credential := next.provision()
		moved, err := root.Transfer(next.folder(), next, b, credential, escrow, next.launched("approved"))
		next.must(err)
		if got, err := moved.ID(); err != nil || got != id {
			t.Errorf("it is %s, not %s: %v", got, id, err)
		}
		if _, err := store.Open(next.path(), moved); err == nil {
			t.Error("a store was opened on another TPM without a word")
		}
		from := filepath.Join(next.dir, "brought")
		next.must(os.Rename(next.path(), from))
		next.must(store.Restore(next.path(), moved, from, key(t, moved)))
		st, err := store.Open(next.path(), next.open())
		next.must(err)
		defer st.Close()
		if g, err := st.Get(guest.UUID); err != nil || string(g.State) != "state 2" || g.Generation != 2 {
			t.Errorf("%+v, %v", g, err)
		}
	})
}

func TestAClosedRootTellsNothing(t *testing.T) {
	r := newServer(t, tpm.V20).create()
	r.Close()
	if k, err := r.Key(); !errors.Is(err, root.ErrClosed) || k != nil {
		t.Errorf("%d bytes of key, %v", len(k), err)
	}
	if e, err := r.Escrow(); !errors.Is(err, root.ErrClosed) || e != nil {
		t.Errorf("%d bytes of escrow, %v", len(e), err)
	}
	if err := r.Advance(1); !errors.Is(err, root.ErrClosed) {
		t.Errorf("it advanced: %v", err)
	}
	r.Close()
}

// Each byte of the record flipped, and each length: refused, and never another key.
func TestADamagedRecordIsRefused(t *testing.T) {
	eachFamily(t, func(t *testing.T, s *server) {
		s.create()
		names, err := filepath.Glob(filepath.Join(s.folder(), "*.aem"))
		if err != nil || len(names) != 1 {
			t.Fatalf("%v, %v", names, err)
		}
		file, err := os.ReadFile(names[0])
		s.must(err)
		for i := range file {
			spoilt := bytes.Clone(file)
			spoilt[i] ^= 1
			s.must(os.WriteFile(names[0], spoilt, 0o600))
			s.want(seal.ErrDamaged)
		}
		s.must(os.WriteFile(names[0], file[:len(file)-1], 0o600))
		s.want(seal.ErrDamaged)
		s.must(os.WriteFile(names[0], file, 0o600))
		s.open()
	})
}

// A record of another kind in the root's place is no root, whatever is in it.
func TestARecordOfAnotherKindIsNoRoot(t *testing.T) {
	s := newServer(t, tpm.V20)
	r := s.create()
	escrow, err := r.Escrow()
	s.must(err)
	b, _ := s.provision()
	now, err := b.Generation()
	s.must(err)
	other := &seal.Record{Kind: seal.KindCredential, Generation: now, Medium: seal.MediumID{1}, States: r.Policy().States}
	s.must(seal.Seal(b, other, escrow, nil))
	s.must(os.RemoveAll(s.folder()))
	s.must(os.Mkdir(s.folder(), 0o700))
	s.must(os.WriteFile(filepath.Join(s.folder(), fmt.Sprintf("record-%016x.aem", now)), other.Bytes(), 0o600))
	s.want(seal.ErrDamaged)
}

// An approved state of aem's also has PCR 13, which is capped when the manager starts.
func TestLaunchedLeavesOutWhatIsCapped(t *testing.T) {
	s := newServer(t, tpm.V20)
	full := s.state("approved", 13, 17, 18)
	for _, p := range []tpm.PCR{13, 17, 18} {
		full.Measured = append(full.Measured, seal.Measurement{Name: "x", PCR: p, Digests: tpm.SumAll(full.Values.Algs(), []byte("x"))})
	}
	s.must(testbed.Extend(s.conn, s.version, 0, 13, tpm.SumAll(full.Values.Algs(), []byte("cap"))))
	b, credential := s.provision()
	cut := root.Launched(full)
	_, err := root.Create(s.folder(), s, b, credential, root.Policy{States: []seal.State{cut}})
	s.must(err)
	s.open()
	if len(cut.Measured) != 2 || cut.Label != full.Label || cut.PCRs != tpm.PCRSet(17, 18) || cut.Values[0].Values[13] != nil {
		t.Errorf("it was cut to %+v", cut)
	}
}
