package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/journal"
	"github.com/antievilmaid/aem/tpm"
)

// bootNamed restarts the machine, and its kernel gives the boot this name.
func (l *laptop) bootNamed(id string) {
	l.t.Helper()
	l.boot()
	path := filepath.Join(l.root(), "proc/sys/kernel/random/boot_id")
	l.must(os.MkdirAll(filepath.Dir(path), 0o700))
	l.must(os.WriteFile(path, []byte(id+"\n"), 0o600))
}

func (l *laptop) root() string { return filepath.Join(l.dir, "root") }

func (l *laptop) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// prove does what aem unseal does in the initramfs: it proves the machine, with the PIN,
// or is refused; and caps.
func (l *laptop) prove(pin string, on bool) {
	l.t.Helper()
	m, closer, err := aem.Open(aem.Where{TPM: "swtpm:" + l.socket, Log: filepath.Join(l.dir, "log")}, nil)
	l.must(err)
	defer closer.Close()
	records, err := aem.ReadMedium([]string{l.dir}, 0)
	l.must(err)
	proof, err := m.Prove(l.t.Context(), records, func(_ context.Context, wrong *aem.Guesses) ([]byte, error) {
		if wrong != nil {
			return nil, aem.ErrCancelled
		}
		return []byte(pin), nil
	})
	if err == nil {
		l.must(m.Cap(aem.Outcome{Result: aem.ResultProved, Medium: proof.Record.Medium}))
		return
	}
	l.must(m.Cap(aem.Outcome{Result: aem.ResultRefused, Cause: aem.Refuse(err).Cause}))
	if on {
		l.must(m.Cap(aem.Outcome{Result: aem.ResultContinued}))
	}
}

// entries are the journal's.
func (l *laptop) entries() []journal.Entry {
	l.t.Helper()
	j, err := journal.Open(filepath.Join(l.dir, "home"))
	l.must(err)
	var list []journal.Entry
	for e, err := range j.Entries() {
		l.must(err)
		list = append(list, e)
	}
	return list
}

func (l *laptop) report(v any, args ...string) {
	l.t.Helper()
	out := l.want(aem.ExitOK, "", "", append(args, "--json", "--root", l.root())...)
	l.must(json.Unmarshal([]byte(out), v))
}

// What each boot's proof came to is written down once, and told by journal, status, explain
// and media list.
func TestTheJournalKnowsWhatEachBootCameTo(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			l := newLaptop(t, v)
			boot := func(text string) {
				t.Helper()
				l.want(aem.ExitOK, text, "", "journal", "boot", "--root", l.root())
			}
			l.bootNamed("one")
			l.want(aem.ExitError, "not set up yet", "", "journal", "boot", "--root", l.root())
			l.want(aem.ExitOK, "Ready.", "", "init", "--no-disks", "--medium", l.dir)
			boot("No proof was asked for in this boot.")
			l.want(aem.ExitOK, "Kept.", sentence+"\n", "secret", "set", "text")
			l.want(aem.ExitOK, "Sealed as generation 2", "271828\n271828\n", "seal", "--pin", "--label", "Monday")
			l.want(aem.ExitOK, "internal  ", "", "media", "list")

			l.bootNamed("two")
			l.prove("271828", false)
			boot("The machine proved itself")
			n := len(l.entries())
			boot("Written down already: The machine proved itself")
			last := l.entries()[n-1]
			if got := len(l.entries()); got != n || last.Kind != journal.Opened || last.Details["medium"] != aem.FirstMedium || last.Details["state"] != "Monday" || last.Details["boot"] != "two" {
				t.Errorf("%d entries, and then %d; the last is %s", n, got, last)
			}
			l.want(aem.ExitOK, " (last)  ", "", "media", "list")
			l.want(aem.ExitOK, "This boot: The machine proved itself", "", "explain", "--root", l.root())

			// The evil maid was here.
			good := l.launch.Initrd
			l.launch.Initrd = []byte("evil")
			l.bootNamed("three")
			l.prove("271828", true)
			boot("is not what you approved. Its owner booted on without proof.")
			if e := l.entries()[n]; e.Kind != journal.Refused || e.Details["cause"] != "changed" || e.Details["continued_unproven"] != "yes" {
				t.Errorf("the refusal is written down as %s", e)
			}
			out := l.want(aem.ExitOK, "It differs from the approved state \"Monday\" in:\n  initramfs\n    approved  ", "", "explain", "--root", l.root())
			if !strings.Contains(out, "aem-setup approve") || !strings.Contains(out, "do not type your passphrase") {
				t.Errorf("it does not say what to do: %s", out)
			}
			var x explanation
			l.report(&x, "explain")
			c := x.Differences.Changes
			if len(c) != 1 || c[0].What != "initramfs" || c[0].Before == "" || c[0].After == "" || x.ThisBoot.Cause != aem.CauseChanged || x.LastRefused.Boot != "one" {
				t.Errorf("explain says %+v, %+v", x, x.Differences)
			}

			l.launch.Initrd = good
			l.bootNamed("four")
			l.prove("31415", false)
			boot("The PIN is wrong.")
			var st statusReport
			l.report(&st, "status")
			if st.LastProof == nil || st.LastProof.Boot != "two" || st.LastRefusal == nil || st.LastRefusal.Cause != aem.CausePIN || len(st.Media) != 1 || !st.Media[0].BootedLast {
				t.Errorf("status says %+v", st)
			}
			if len(st.States) != 1 || st.States[0] != "Monday (this boot)" {
				t.Errorf("status says that %q are approved", st.States)
			}
			l.want(aem.ExitOK, "last without", "", "status")
			// Root extends the PCR to look better, before it was written down.
			l.bootNamed("five")
			l.prove("271828", false)
			l.prove("271828", false)
			m, closer, err := aem.Open(aem.Where{TPM: "swtpm:" + l.socket}, nil)
			l.must(err)
			l.must(m.Cap(aem.Outcome{Result: aem.ResultProved}))
			closer.Close()
			boot("Unknown: PCR 13 holds something else")
			l.want(aem.ExitOK, "set up with", "", "journal")
			wantNoSecret(t, l.dir)
		})
	}
}

// What scripts read keeps its names.
func TestTheReportsOfBootsKeepTheirNames(t *testing.T) {
	l := newLaptop(t, tpm.V20)
	l.want(aem.ExitOK, "Ready.", "", "init", "--no-disks", "--medium", l.dir)
	l.want(aem.ExitOK, "Kept.", sentence+"\n", "secret", "set", "text")
	l.want(aem.ExitOK, "Sealed", "", "seal", "--label", "Monday")
	l.bootNamed("one")
	l.prove("", false)
	var boot, status, explain map[string]any
	var media []map[string]any
	l.report(&boot, "journal", "boot")
	l.bootNamed("two")
	l.launch.Initrd = []byte("evil")
	l.bootNamed("three")
	l.prove("", true)
	var refused map[string]any
	l.report(&refused, "journal", "boot")
	l.report(&status, "status")
	l.report(&explain, "explain")
	l.report(&media, "media", "list")
	for _, c := range []struct {
		report any
		names  string
	}{
		{boot, "time boot outcome medium medium_id state sentence"},
		{refused, "time boot outcome cause continued_unproven sentence advice"},
		{status, "tpm set_up launch opens_now approved_states media last_proof last_refusal"},
		{explain, "this_boot differences next"},
		{explain["differences"], "launch state approved changes"},
		{media[0], "name id last_proof booted_last"},
	} {
		m, _ := c.report.(map[string]any)
		for name := range strings.FieldsSeq(c.names) {
			if _, ok := m[name]; !ok {
				t.Errorf("%s is missing among %v", name, m)
			}
		}
	}
	if boot["outcome"] != "proved" || refused["outcome"] != "refused" || refused["cause"] != "changed" || explain["next"] != "aem-setup approve" {
		t.Errorf("the reports are %v, %v, %v", boot, refused, explain)
	}
}

// The journal's end is sealed with each entry: what is cut off or written anew is noticed,
// and the next entry does not hide it.
func TestAChangedJournalIsNoticed(t *testing.T) {
	for name, c := range map[string]struct {
		tamper func(t *testing.T, home string)
		says   string
	}{
		"cut": {func(t *testing.T, home string) { rewriteJournal(t, home, -1) }, "cut short"},
		"gone": {func(t *testing.T, home string) {
			if err := os.Remove(filepath.Join(home, "journal")); err != nil {
				t.Fatal(err)
			}
		}, "cut short"},
		"written anew": {func(t *testing.T, home string) { rewriteJournal(t, home, 0) }, "rewritten"},
		"end removed": {func(t *testing.T, home string) {
			if err := os.Remove(filepath.Join(home, "journal-head.aem")); err != nil {
				t.Fatal(err)
			}
		}, "is not there"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLaptop(t, tpm.V20)
			home := filepath.Join(l.dir, "home")
			l.bootNamed("one")
			l.want(aem.ExitOK, "Ready.", "", "init", "--no-disks", "--medium", l.dir)
			l.want(aem.ExitOK, "", "", "journal", "boot", "--root", l.root())
			l.want(aem.ExitOK, "No proof", "", "journal")
			c.tamper(t, home)
			l.want(aem.ExitError, c.says, "", "journal")
			var st statusReport
			if l.report(&st, "status"); !strings.Contains(st.Journal, c.says) {
				t.Errorf("status says %q", st.Journal)
			}
			l.bootNamed("two")
			for _, boot := range []string{"three", "four"} {
				l.bootNamed(boot)
				l.want(aem.ExitOK, "as it should", "", "journal", "boot", "--root", l.root())
			}
			if exit, out := l.setup("", "journal"); exit == aem.ExitOK {
				t.Errorf("further entries hide what was done: %s", out)
			}
			l.want(aem.ExitOK, "Would accept the journal although", "", "journal", "--accept", "--dry-run")
			if exit, out := l.setup("", "journal"); exit == aem.ExitOK {
				t.Errorf("it was accepted by a dry run: %s", out)
			}
			l.want(aem.ExitOK, "", "", "journal", "--accept")
			l.want(aem.ExitOK, "accepted as it is", "", "journal")
		})
	}
}

// rewriteJournal puts a journal without fault in the place of the one that is there, with so
// many entries more.
func rewriteJournal(t *testing.T, home string, more int) {
	t.Helper()
	j, err := journal.Open(home)
	if err != nil {
		t.Fatal(err)
	}
	head, err := j.Head()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(home, "journal")); err != nil {
		t.Fatal(err)
	}
	for range int(head.Number) + more {
		if err := j.Append(journal.Entry{Kind: journal.Sealed, Text: "forged"}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAJournalIsReadWithoutATPM(t *testing.T) {
	l := newLaptop(t, tpm.V20)
	l.want(aem.ExitOK, "Ready.", "", "init", "--no-disks", "--medium", l.dir)
	exit, out := capture(t, "", []string{"journal", "--home", filepath.Join(l.dir, "home"), "--tpm", filepath.Join(l.dir, "tpm0")})
	if exit != aem.ExitNotPossible || !strings.Contains(out, "set up with") || !strings.Contains(out, "can't be said without the TPM") {
		t.Errorf("exit %d: %s", exit, out)
	}
}
