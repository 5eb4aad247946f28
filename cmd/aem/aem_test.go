package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/pty"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/ui"
)

const sentence = "the lighthouse keeper sleeps on Tuesdays"

// laptop is an emulated machine on which a sentence is sealed.
type laptop struct {
	t        *testing.T
	emulator *testbed.Emulator
	launch   drtm.LinuxLaunch
	dir      string
	home     aem.Home
	disks    []string // further flags of aem unseal
}

func newLaptop(t *testing.T, v tpm.Version) *laptop {
	t.Helper()
	conn, emulator := testbed.NewForeignTPM(t, v)
	conn.Close() // each command line opens the TPM for itself
	l := &laptop{t: t, emulator: emulator, launch: testbed.SampleLaunch(drtm.SKINIT, v), dir: t.TempDir()}
	l.home = aem.OpenHome(filepath.Join(l.dir, "home"))
	l.boot()
	return l
}

func (l *laptop) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// boot restarts and launches the machine, and leaves the log in a file.
func (l *laptop) boot() {
	l.t.Helper()
	conn, err := swtpm.Dial(l.emulator.Socket())
	l.must(err)
	defer conn.Close()
	l.must(testbed.PowerOff(conn, l.launch.Version))
	l.must(testbed.PowerOn(conn, l.launch.Version))
	log, err := testbed.LaunchLinux(conn, l.launch)
	l.must(err)
	l.must(os.WriteFile(l.log(), log, 0o600))
}

func (l *laptop) log() string { return filepath.Join(l.dir, "log") }

// seal seals the sentence to the present boot.
func (l *laptop) seal(pin string) {
	l.t.Helper()
	m, closer, err := aem.Open(aem.Where{TPM: "swtpm:" + l.emulator.Socket(), Log: l.log()}, nil)
	l.must(err)
	defer closer.Close()
	if _, err := l.home.Setup(); err != nil {
		_, err = m.Init(l.home, l.dir, nil)
		l.must(err)
	}
	l.must(m.SetText(l.home, []byte(sentence)))
	boot, err := m.Boot()
	l.must(err)
	state, err := boot.Present("first")
	l.must(err)
	_, err = m.Seal(l.home, []seal.State{*state}, []byte(pin))
	l.must(err)
}

// args are a command line for this machine.
func (l *laptop) args(args ...string) []string {
	return append(args, "--tpm", "swtpm:"+l.emulator.Socket(), "--log", l.log())
}

// capture runs a command line and returns what it printed.
func capture(t *testing.T, args []string) (exit aem.Exit, stdout, stderr string) {
	t.Helper()
	return captureOf(t, newCommand(), args)
}

func captureOf(t *testing.T, cmd *cobra.Command, args []string) (exit aem.Exit, stdout, stderr string) {
	t.Helper()
	var texts [2]string
	files := [2]**os.File{&os.Stdout, &os.Stderr}
	var temps [2]*os.File
	for i, f := range files {
		temp, err := os.CreateTemp(t.TempDir(), "out")
		if err != nil {
			t.Fatal(err)
		}
		old := *f
		*f, temps[i] = temp, temp
		defer func() { *f = old }()
	}
	exit = cli.Run(t.Context(), cmd, args)
	for i, temp := range temps {
		b, err := os.ReadFile(temp.Name())
		temp.Close()
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(b)
	}
	return exit, texts[0], texts[1]
}

// unseal runs aem unseal on a terminal and answers each screen once it shows the text.
func (l *laptop) unseal(answers ...[2]string) (aem.Exit, outcome) {
	l.t.Helper()
	x := pty.Open(l.t)
	type ended struct {
		exit        aem.Exit
		out, stderr string
	}
	done := make(chan ended, 1)
	go func() {
		exit, out, stderr := capture(l.t, append(l.args("unseal", "--medium", l.dir, "--tty", x.Path, "--plain", "--json"), l.disks...))
		done <- ended{exit, out, stderr}
	}()
	for _, a := range answers {
		x.Expect(a[0])
		x.Send(a[1] + "\n")
	}
	var e ended
	select {
	case e = <-done:
	case <-time.After(30 * time.Second):
		l.t.Fatalf("aem unseal does not end; the terminal shows %q", x.Seen())
	}
	if strings.Contains(e.out+e.stderr, sentence) || strings.Contains(e.out+e.stderr, "2718") {
		l.t.Errorf("the secret or the PIN stands in what was printed: %q %q", e.out, e.stderr)
	}
	if strings.Contains(x.Seen(), "2718") {
		l.t.Error("the PIN can be read on the terminal")
	}
	var o outcome
	if err := json.Unmarshal([]byte(e.out), &o); err != nil {
		l.t.Fatalf("the outcome is no JSON: %v: %q, and %q", err, e.out, e.stderr)
	}
	if o.Exit != e.exit {
		l.t.Errorf("exit code %d, and JSON says %d", e.exit, o.Exit)
	}
	return e.exit, o
}

// wantTold demands what the running system learns of this boot's proof.
func (l *laptop) wantTold(steps ...string) {
	l.t.Helper()
	m, closer, err := aem.Open(aem.Where{TPM: "swtpm:" + l.emulator.Socket(), Log: l.log()}, nil)
	l.must(err)
	defer closer.Close()
	told, err := m.Outcome(l.home)
	l.must(err)
	if !slices.Equal(told.Steps, steps) {
		l.t.Errorf("the running system is told %q (%s); want %q", told.Steps, told.Result, steps)
	}
}

func (l *laptop) wantUnseal(exit aem.Exit, result string, cause aem.Cause, answers ...[2]string) outcome {
	l.t.Helper()
	got, o := l.unseal(answers...)
	if got != exit || o.Result != result || o.Cause != cause {
		l.t.Errorf("exit %d, result %q, cause %q (%s); want %d, %q, %q", got, o.Result, o.Cause, o.Detail, exit, result, cause)
	}
	return o
}

// What a screen shows before it is answered.
const (
	proofShown   = "no + Enter: this is not mine.\r\n> "
	refusalShown = "boot on without proof.\r\n> "
	noticeShown  = "Enter: go on.\r\n> "
	pinShown     = "PIN: "
)

func TestUnseal(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			l := newLaptop(t, v)
			l.wantUnseal(aem.ExitOK, "first-boot", aem.CauseFirstBoot, [2]string{noticeShown, ""})
			l.boot()
			l.seal("")
			l.boot()
			o := l.wantUnseal(aem.ExitOK, "proved", "", [2]string{proofShown, ""})
			if o.Generation == 0 || o.Commands == 0 || !strings.Contains(o.Grade, "AMD SKINIT") {
				t.Errorf("the outcome says %+v", o)
			}
			l.wantTold("proved")
			l.wantUnseal(aem.ExitMeasurements, "refused", aem.CauseAlready, [2]string{refusalShown, ""})
			l.wantTold("proved", "refused already-proved")
			l.boot()
			l.wantUnseal(aem.ExitError, "refused", aem.CauseRejected, [2]string{proofShown, "no"}, [2]string{refusalShown, ui.UnprovenWord})
			l.wantTold("refused secret-not-recognised", "continued")

			l.launch.Initrd = []byte("evil")
			l.boot()
			o = l.wantUnseal(aem.ExitMeasurements, "refused", aem.CauseChanged, [2]string{refusalShown, ui.UnprovenWord})
			if !o.Unproven || len(o.Changes) != 1 || o.Changes[0].What != "initramfs" {
				t.Errorf("the outcome says %+v", o)
			}
			l.wantTold("refused changed", "continued")
			// And what was refused can't be opened by what runs next.
			l.launch.Initrd = testbed.SampleLaunch(drtm.SKINIT, v).Initrd
			l.wantUnseal(aem.ExitMeasurements, "refused", aem.CauseChanged, [2]string{refusalShown, ""})

			l.boot()
			records := filepath.Join(l.dir, aem.RecordsFolder)
			hidden := records + "-away"
			l.must(os.Rename(records, hidden))
			l.wantUnseal(aem.ExitDamaged, "refused", aem.CauseRecordGone, [2]string{refusalShown, ""})
			l.must(os.Rename(hidden, records))

			other := newLaptop(t, v)
			l.must(os.CopyFS(filepath.Join(other.dir, aem.RecordsFolder), os.DirFS(records)))
			other.wantUnseal(aem.ExitOtherTPM, "refused", aem.CauseOtherTPM, [2]string{refusalShown, ""})
		})
	}
}

// Where the terminal goes away the cap comes all the same, before anything else runs.
func TestTheCapComesAlsoWhereTheTerminalGoesAway(t *testing.T) {
	l := newLaptop(t, tpm.V20)
	gone := func(shown string) {
		t.Helper()
		x := pty.Open(t)
		done := make(chan aem.Exit, 1)
		go func() {
			exit, _, _ := capture(t, l.args("unseal", "--medium", l.dir, "--tty", x.Path, "--plain", "--gate"))
			done <- exit
		}()
		x.Expect(shown)
		x.HangUp()
		if exit := <-done; exit == aem.ExitOK {
			t.Errorf("without its terminal aem unseal lets the boot go on")
		}
	}
	gone(noticeShown)
	l.seal("")
	l.wantTold("first-boot")
	l.boot()
	gone(proofShown)
	l.wantTold("unanswered")
	l.boot()
	l.launch.Initrd = []byte("evil")
	l.boot()
	gone(refusalShown)
	l.wantTold("refused changed")
}

// A disk that is missing is refused, and nothing opens afterwards.
func TestARefusalForAMissingDiskIsCapped(t *testing.T) {
	l := newLaptop(t, tpm.V20)
	l.seal("")
	l.boot()
	l.disks = []string{"--disk", "00000000-aaaa-bbbb-cccc-dddddddddddd"}
	l.wantUnseal(aem.ExitMeasurements, "refused", aem.CauseNoDisk, [2]string{refusalShown, ""})
	l.wantTold("refused disk-missing")
	l.disks = nil
	l.wantUnseal(aem.ExitMeasurements, "refused", aem.CauseTried, [2]string{refusalShown, ""})
}

func TestUnsealWithAPIN(t *testing.T) {
	l := newLaptop(t, tpm.V20)
	l.seal("2718")
	l.boot()
	l.wantUnseal(aem.ExitOK, "proved", "", [2]string{pinShown, "3141"}, [2]string{"The PIN is wrong", "2718"}, [2]string{proofShown, ""})
	l.boot()
	l.wantUnseal(aem.ExitAuth, "refused", aem.CausePIN, [2]string{pinShown, "3141"}, [2]string{"The PIN is wrong", ""}, [2]string{refusalShown, ""})
}

func TestUnsealWithoutATPMOrMedium(t *testing.T) {
	l := newLaptop(t, tpm.V20)
	l.seal("")
	l.boot()
	good := l.dir
	l.dir = filepath.Join(l.dir, "absent")
	l.must(os.MkdirAll(l.dir, 0o700))
	log, err := os.ReadFile(filepath.Join(good, "log"))
	l.must(err)
	l.must(os.WriteFile(l.log(), log, 0o600))
	l.wantUnseal(aem.ExitDamaged, "refused", aem.CauseRecordGone, [2]string{refusalShown, ""})
	l.dir = good
	x := pty.Open(t)
	done := make(chan aem.Exit, 1)
	go func() {
		exit, _, _ := capture(t, []string{"unseal", "--medium", l.dir, "--tty", x.Path, "--plain", "--tpm", filepath.Join(l.dir, "tpm0")})
		done <- exit
	}()
	x.Expect(refusalShown)
	if !strings.Contains(x.Seen(), "shows no TPM") {
		t.Errorf("without a TPM the screen says %q", x.Seen())
	}
	x.Send("\n")
	if exit := <-done; exit != aem.ExitNotPossible {
		t.Errorf("without a TPM the exit code is %d", exit)
	}
}

func TestUsageErrors(t *testing.T) {
	for _, args := range [][]string{{"unseal"}, {"unseal", "extra"}, {"--no-such-flag"}, {"log", "a", "b"}} {
		exit, out, stderr := capture(t, args)
		if exit != aem.ExitUsage || out != "" || !strings.Contains(stderr, "--help") {
			t.Errorf("%q: exit %d, %q, %q", args, exit, out, stderr)
		}
	}
}

func TestLog(t *testing.T) {
	l := newLaptop(t, tpm.V20)
	exit, out, _ := capture(t, l.args("log"))
	if exit != aem.ExitOK || !strings.Contains(out, "Launch: verified (AMD SKINIT)") || strings.Contains(out, "MISMATCH") {
		t.Errorf("a true log: exit %d\n%s", exit, out)
	}
	var r logReport
	if exit, out, _ = capture(t, l.args("log", "--json")); exit != aem.ExitOK || json.Unmarshal([]byte(out), &r) != nil || len(r.Verdicts) != 8 {
		t.Errorf("as JSON: exit %d\n%s", exit, out)
	}
	// Without a TPM to compare with, nothing is called verified.
	if exit, out, _ = capture(t, []string{"log", l.log()}); exit != aem.ExitOK || !strings.Contains(out, "nothing above is proven") {
		t.Errorf("a log alone: exit %d\n%s", exit, out)
	}
	raw, err := os.ReadFile(l.log())
	l.must(err)
	forged := bytes.Replace(raw, tpm.SHA256.Sum(l.launch.Initrd), tpm.SHA256.Sum([]byte("evil")), 1)
	l.must(os.WriteFile(l.log(), forged, 0o600))
	if exit, out, _ = capture(t, l.args("log")); exit != aem.ExitMeasurements || !strings.Contains(out, "MISMATCH") {
		t.Errorf("a forged log: exit %d\n%s", exit, out)
	}
	l.must(os.WriteFile(l.log(), raw[:200], 0o600))
	if exit, out, _ = capture(t, l.args("log")); exit != aem.ExitMeasurements || !strings.Contains(out, "Damaged:") {
		t.Errorf("a damaged log: exit %d\n%s", exit, out)
	}
}
