package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/journal"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/internal/vtpmbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
	"github.com/antievilmaid/aem/vtpm/admin"
)

// asDaemon makes the test's own program vtpmd, so that it can be killed.
const asDaemon = "VTPMD_IS_THIS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asDaemon) != "" {
		main()
	}
	os.Exit(m.Run())
}

func vtpmd(args ...string) *exec.Cmd {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	c := exec.Command(self, args...)
	c.Env = append(os.Environ(), asDaemon+"=1")
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A vTPM is the same one after an end in order, after kill -9, and after the machine's restart.
func TestAVTPMStaysTheSame(t *testing.T) {
	s := vtpmbed.New(t, tpm.V20, vtpmd)
	s.Do(aem.ExitNotPossible, "No vTPM manager was set up")
	s.Do(aem.ExitOK, "The store", "init")
	s.Do(aem.ExitError, "set up on this machine already", "init")
	d := s.Start()
	var vtpms []admin.VTPM
	var want, got []string
	for _, family := range []string{"2.0", "1.2"} {
		v := s.New("a guest", family)
		vtpms = append(vtpms, v)
		want = append(want, s.Identity(v))
	}
	if want[0] == want[1] {
		t.Fatal("two vTPMs have one identity")
	}
	for _, end := range []func(){
		func() { d.Stop() },
		func() { d.Kill() },
		func() { d.Stop(); s.Boot("approved") },
	} {
		end()
		d = s.Start()
		got = nil
		for _, v := range vtpms {
			got = append(got, s.Identity(v))
		}
		if !cmp.Equal(want, got) {
			t.Fatal("a vTPM is another one than it was")
		}
	}
	d.Stop()
	if _, err := os.Stat(filepath.Join(s.Dir, "run", "admin.sock")); err == nil {
		t.Error("the administrator's socket is still there")
	}
}

// In a boot that is not approved there is no store, nothing starts, and why is said.
func TestABootThatIsNotApproved(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			s := vtpmbed.New(t, v, vtpmd)
			s.Do(aem.ExitOK, "The store", "init")
			d := s.Start()
			s.New("a guest", "2.0")
			d.Stop()
			refused := func(words string) {
				t.Helper()
				s.Do(aem.ExitMeasurements, words, "--run", filepath.Join(s.Dir, "run"))
				if _, err := s.Status(t.Context()); err == nil {
					t.Error("there is an administrator's socket")
				}
			}
			s.Boot("another line")
			refused("This boot is not one that was approved")
			s.Restart(func(*swtpm.TPM) {})
			refused("This boot is not one that was approved")
			s.Boot("approved")
			d = s.Start()
			status, err := s.Status(t.Context())
			must(t, err)
			if status.Grade != "launched" || status.VTPMs != 1 || len(status.Approved) != 1 {
				t.Errorf("%+v", status)
			}
			d.Stop()
		})
	}
}

// Without a launch a store is made only where its owner says so, and then everybody is told.
func TestTheStaticRootIsExplicit(t *testing.T) {
	s := vtpmbed.New(t, tpm.V20, vtpmd)
	measured := func(what string, more ...tpm.PCR) {
		t.Helper()
		s.Restart(func(conn *swtpm.TPM) {
			for _, p := range append([]tpm.PCR{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, more...) {
				must(t, testbed.Extend(conn, tpm.V20, 0, p, tpm.SumAll([]tpm.Alg{tpm.SHA1, tpm.SHA256, tpm.SHA384, tpm.SHA512}, []byte(what))))
			}
		})
	}
	measured("firmware")
	s.Do(aem.ExitMeasurements, "not a dynamic launch", "init")
	s.Do(aem.ExitOK, "static root", "init", "--static-root")
	d := s.Start()
	status, err := s.Status(t.Context())
	must(t, err)
	if status.Grade != "static-root" || !strings.Contains(status.Launch, "no dynamic launch") || !strings.Contains(d.Said(), "static root") {
		t.Errorf("%+v", status)
	}
	d.Stop()
	measured("firmware", tpm.PCRHost) // as anti-evil-maid does when it has shown its proof
	d = s.Start()
	d.Stop()
	measured("another firmware")
	s.Do(aem.ExitMeasurements, "not one that was approved")
}

// A journal that somebody cut is noticed, stays so, and is accepted by a word.
func TestTheAuditLog(t *testing.T) {
	s := vtpmbed.New(t, tpm.V20, vtpmd)
	s.Do(aem.ExitOK, "The store", "init")
	d := s.Start()
	s.New("a guest", "2.0")
	d.Stop()
	path := filepath.Join(s.State(), "journal")
	b, err := os.ReadFile(path)
	must(t, err)
	lines := strings.SplitAfter(string(b), "\n")
	must(t, os.WriteFile(path, []byte(strings.Join(lines[:len(lines)-2], "")), 0o600))
	d = s.Start()
	d.Stop()
	d = s.Start()
	var kinds []journal.Kind
	audit := func() error {
		kinds = nil
		return s.Audit(t.Context(), func(e journal.Entry) { kinds = append(kinds, e.Kind) })
	}
	if err := audit(); err == nil {
		t.Error("a journal that was cut counts as whole")
	}
	status, err := s.Status(t.Context())
	must(t, err)
	if status.Journal == "" {
		t.Error("the status does not say so")
	}
	must(t, s.AcceptAudit(t.Context()))
	if err := audit(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]journal.Kind{"set-up", "opened", "created", "opened", "ended", "opened", "accepted"}, kinds); diff != "" {
		t.Error(diff)
	}
	d.Stop()
}

// After a crash, a copy of the store is refused that is older than the last epoch; what was acknowledged is there.
func TestEpochs(t *testing.T) {
	s := vtpmbed.New(t, tpm.V20, vtpmd)
	s.Do(aem.ExitOK, "The store", "init")
	d := s.Start("--epoch", "100ms")
	epoch := func() uint64 {
		t.Helper()
		status, err := s.Status(t.Context())
		must(t, err)
		return status.Epoch
	}
	path := filepath.Join(s.State(), "vtpms")
	old, err := os.ReadFile(path)
	must(t, err)
	// The next epoch begins after the change, at the latest, and so after the copy: however slow this is.
	began := epoch()
	s.New("a guest", "2.0")
	for epoch() == began {
	}
	v := s.New("another", "2.0")
	d.Kill()
	newest, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, old, 0o600))
	s.Do(aem.ExitStale, "put back from an earlier time")
	must(t, os.WriteFile(path, newest, 0o600))
	d = s.Start()
	if _, err := s.Show(t.Context(), v.UUID); err != nil {
		t.Errorf("a vTPM that was made is gone: %v", err)
	}
	d.Stop()
}

// A guest that is there when vtpmd is killed, or told to end, loses its TPM; it
// finds the same TPM when it starts anew.
func TestAGuestThatIsThereWhenVtpmdEnds(t *testing.T) {
	s := vtpmbed.New(t, tpm.V20, vtpmd)
	s.Do(aem.ExitOK, "The store", "init")
	d := s.Start()
	v := s.New("a guest", "2.0")
	who := s.Identity(v)
	for _, end := range []func(){func() { d.Stop() }, func() { d.Kill() }} {
		conn := s.Guest(v.Socket)
		if name, err := tpm2.New(conn).EndorsementName(); err != nil || string(name) != who {
			t.Fatalf("it is another TPM: %v", err)
		}
		end()
		if _, err := tpm2.New(conn).EndorsementName(); err == nil {
			t.Error("the guest still has a TPM")
		}
		conn.Close()
		d = s.Start()
	}
	if s.Identity(v) != who {
		t.Error("it is another TPM")
	}
	d.Stop()
}

// The system's own vTPM is one among others: where it can't be had, that is said, and guests have theirs.
func TestGuestsHaveTheirsWhereTheSystemHasNone(t *testing.T) {
	s := vtpmbed.New(t, tpm.V20, vtpmd)
	s.Do(aem.ExitOK, "The store", "init")
	d := s.Start("--host-vtpm", "11111111-2222-3333-4444-555555555555") // nobody made it
	v := s.New("a guest", "2.0")
	if s.Identity(v) == "" {
		t.Error("a guest has no TPM")
	}
	if said := d.Said(); !strings.Contains(said, "this system has no vTPM of its own") || !strings.Contains(said, "11111111-2222-3333-4444-555555555555") {
		t.Errorf("the log has no word of it: %s", said)
	}
	status, err := s.Status(t.Context())
	must(t, err)
	if diff := cmp.Diff([]string{"qemu"}, status.Frontends); diff != "" {
		t.Error(diff)
	}
	d.Stop()
}
