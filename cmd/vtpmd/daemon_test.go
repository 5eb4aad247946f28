package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/journal"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm/admin"
)

// A vTPM is the same one after an end in order, after kill -9, and after the machine's restart.
func TestAVTPMStaysTheSame(t *testing.T) {
	s := newServer(t, tpm.V20)
	s.do(aem.ExitNotPossible, "No vTPM manager was set up")
	s.do(aem.ExitOK, "The store", "init")
	s.do(aem.ExitError, "set up on this machine already", "init")
	d := s.start()
	var vtpms []admin.VTPM
	var want, got []string
	for _, family := range []string{"2.0", "1.2"} {
		v := s.create("a guest", family)
		vtpms = append(vtpms, v)
		want = append(want, s.identity(v))
	}
	if want[0] == want[1] {
		t.Fatal("two vTPMs have one identity")
	}
	for _, end := range []func(){
		func() { d.stop() },
		func() { d.kill() },
		func() { d.stop(); s.boot("approved") },
	} {
		end()
		d = s.start()
		got = nil
		for _, v := range vtpms {
			got = append(got, s.identity(v))
		}
		if !cmp.Equal(want, got) {
			t.Fatal("a vTPM is another one than it was")
		}
	}
	d.stop()
	if _, err := os.Stat(filepath.Join(s.dir, "run", "admin.sock")); err == nil {
		t.Error("the administrator's socket is still there")
	}
}

// In a boot that is not approved there is no store, nothing starts, and why is said.
func TestABootThatIsNotApproved(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			s := newServer(t, v)
			s.do(aem.ExitOK, "The store", "init")
			d := s.start()
			s.create("a guest", "2.0")
			d.stop()
			refused := func(words string) {
				t.Helper()
				s.do(aem.ExitMeasurements, words, "--run", filepath.Join(s.dir, "run"))
				if _, err := s.Status(t.Context()); err == nil {
					t.Error("there is an administrator's socket")
				}
			}
			s.boot("another line")
			refused("This boot is not one that was approved")
			s.restart(func(*swtpm.TPM) {})
			refused("This boot is not one that was approved")
			s.boot("approved")
			d = s.start()
			status, err := s.Status(t.Context())
			must(t, err)
			if status.Grade != "launched" || status.VTPMs != 1 || len(status.Approved) != 1 {
				t.Errorf("%+v", status)
			}
			d.stop()
		})
	}
}

// Without a launch a store is made only where its owner says so, and then everybody is told.
func TestTheStaticRootIsExplicit(t *testing.T) {
	s := newServer(t, tpm.V20)
	measured := func(what string) {
		t.Helper()
		s.restart(func(conn *swtpm.TPM) {
			for p := range tpm.PCR(10) {
				must(t, testbed.Extend(conn, tpm.V20, 0, p, tpm.SumAll([]tpm.Alg{tpm.SHA1, tpm.SHA256, tpm.SHA384, tpm.SHA512}, []byte(what))))
			}
		})
	}
	measured("firmware")
	s.do(aem.ExitMeasurements, "not a dynamic launch", "init")
	s.do(aem.ExitOK, "static root", "init", "--static-root")
	d := s.start()
	status, err := s.Status(t.Context())
	must(t, err)
	if status.Grade != "static-root" || !strings.Contains(status.Launch, "no dynamic launch") || !strings.Contains(d.said(), "static root") {
		t.Errorf("%+v", status)
	}
	d.stop()
	measured("another firmware")
	s.do(aem.ExitMeasurements, "not one that was approved")
}

// An older store is refused, and taken only by who says that he knows what that breaks.
func TestAnOlderStore(t *testing.T) {
	s := newServer(t, tpm.V20)
	s.do(aem.ExitOK, "The store", "init")
	d := s.start()
	v := s.create("a guest", "2.0")
	who := s.identity(v)
	s.do(aem.ExitError, "Another process", "restore", "--yes", filepath.Join(s.dir, "anything"))
	d.stop()
	path := filepath.Join(s.state(), "vtpms")
	old, err := os.ReadFile(path)
	must(t, err)
	d = s.start()
	s.create("a later guest", "2.0")
	d.stop()
	must(t, os.WriteFile(path, old, 0o600))
	s.do(aem.ExitStale, "put back from an earlier time")
	backup := filepath.Join(s.dir, "old")
	must(t, os.WriteFile(backup, old, 0o600))
	s.do(aem.ExitUsage, "nobody can say", "restore", backup)
	s.do(aem.ExitOK, "was restored", "restore", "--yes", backup)
	d = s.start()
	if s.identity(v) != who {
		t.Error("the restored vTPM is another one")
	}
	d.stop()
	must(t, os.Remove(path))
	s.do(aem.ExitDamaged, "is missing")
}

// A journal that somebody cut is noticed, stays so, and is accepted by a word.
func TestTheAuditLog(t *testing.T) {
	s := newServer(t, tpm.V20)
	s.do(aem.ExitOK, "The store", "init")
	d := s.start()
	s.create("a guest", "2.0")
	d.stop()
	path := filepath.Join(s.state(), "journal")
	b, err := os.ReadFile(path)
	must(t, err)
	lines := strings.SplitAfter(string(b), "\n")
	must(t, os.WriteFile(path, []byte(strings.Join(lines[:len(lines)-2], "")), 0o600))
	d = s.start()
	d.stop()
	d = s.start()
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
	d.stop()
}
