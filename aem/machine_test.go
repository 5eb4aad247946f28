package aem_test

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// laptop is a machine with an emulated TPM, files to boot from, a medium and an
// owner's set-up.
type laptop struct {
	*aem.Machine
	t       *testing.T
	conn    *swtpm.TPM
	counter *tpm.Counter
	medium  string
	home    aem.Home
	homeDir string

	drtm.LinuxLaunch               // what it boots
	log              *eventlog.Log // what the last launch left
}

func eachFamily(t *testing.T, test func(t *testing.T, l *laptop)) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		for _, p := range []drtm.Platform{drtm.SKINIT, drtm.TXT} {
			t.Run(v.String()+" "+p.Name(), func(t *testing.T) { test(t, newLaptop(t, v, p)) })
		}
	}
}

func newLaptop(t *testing.T, v tpm.Version, p drtm.Platform) *laptop {
	t.Helper()
	conn, _ := testbed.NewTPM(t, v)
	return laptopWith(t, conn, v, p)
}

// laptopWith is a laptop around a TPM.
func laptopWith(t *testing.T, conn *swtpm.TPM, v tpm.Version, p drtm.Platform) *laptop {
	t.Helper()
	l := &laptop{
		t: t, conn: conn, medium: t.TempDir(), homeDir: filepath.Join(t.TempDir(), "home"),
		counter: &tpm.Counter{Channel: conn}, LinuxLaunch: testbed.SampleLaunch(p, v),
	}
	l.home = aem.OpenHome(l.homeDir)
	chip, err := aem.NewChip(l.counter, v)
	l.must(err)
	l.Machine = &aem.Machine{Chip: chip, Now: time.Now, Log: func() (*aem.LaunchLog, error) {
		if l.log == nil {
			return nil, nil
		}
		return &aem.LaunchLog{Log: l.log, Source: "the test"}, nil
	}}
	return l
}

func (l *laptop) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// restart starts the machine without a launch.
func (l *laptop) restart() {
	l.t.Helper()
	l.must(testbed.PowerOff(l.conn, l.Version))
	l.must(testbed.PowerOn(l.conn, l.Version))
	l.log = nil
}

// boot restarts the machine and launches its files.
func (l *laptop) boot() {
	l.t.Helper()
	l.restart()
	raw, err := testbed.LaunchLinux(l.conn, l.LinuxLaunch)
	l.must(err)
	l.log, err = eventlog.Parse(raw)
	l.must(err)
	l.counter.Commands = 0
}

const sentence = "the lighthouse keeper sleeps on Tuesdays"

// setUp seals the sentence to the present boot.
func (l *laptop) setUp(pin string) {
	l.t.Helper()
	_, err := l.Init(l.home, l.medium, nil)
	l.must(err)
	l.must(l.SetText(l.home, []byte(sentence)))
	l.sealNow(pin)
}

func (l *laptop) sealNow(pin string) {
	l.t.Helper()
	boot, err := l.Boot()
	l.must(err)
	state, err := boot.Present("first")
	l.must(err)
	_, err = l.Seal(l.home, []seal.State{*state}, []byte(pin))
	l.must(err)
}

func (l *laptop) records() []seal.Stored {
	l.t.Helper()
	r, err := aem.ReadMedium([]string{l.medium}, 0)
	l.must(err)
	return r
}

// recordFile is the path of the medium's one record.
func (l *laptop) recordFile() string {
	l.t.Helper()
	files, err := filepath.Glob(filepath.Join(l.medium, aem.RecordsFolder, "*.aem"))
	l.must(err)
	if len(files) != 1 {
		l.t.Fatalf("the medium holds %d records", len(files))
	}
	return files[0]
}

// prove lets the machine prove itself, answering each question with the next PIN.
func (l *laptop) prove(pins ...string) (*aem.Proof, error) {
	l.t.Helper()
	return l.Prove(l.t.Context(), l.records(), answering(pins))
}

// wantProof proves, and caps as a boot does.
func (l *laptop) wantProof(pins ...string) *aem.Proof {
	l.t.Helper()
	p, err := l.prove(pins...)
	if err != nil || string(p.Secret) != sentence {
		l.t.Fatalf("no proof: %v", err)
	}
	l.must(l.Cap(aem.Outcome{Result: aem.ResultProved, Medium: p.Record.Medium}))
	return p
}

// wantRefusal demands a refusal for a cause, with the cause's exit code.
func (l *laptop) wantRefusal(cause aem.Cause, exit aem.Exit, pins ...string) *aem.Refusal {
	l.t.Helper()
	p, err := l.prove(pins...)
	var r *aem.Refusal
	if !errors.As(err, &r) {
		l.t.Fatalf("got the proof %v and %v; want a refusal", p, err)
	}
	if r.Cause != cause || r.Exit() != exit {
		l.t.Fatalf("refused as %s, exit %d (%s); want %s, exit %d", r.Cause, r.Exit(), r, cause, exit)
	}
	if r.Sentence() == "" || r.Advice() == "" {
		l.t.Errorf("%s has no sentence or no advice", cause)
	}
	return r
}

func writeFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// clearTPM clears the TPM as the firmware's setup does.
func (l *laptop) clearTPM() {
	l.t.Helper()
	if l.Version == tpm.V20 {
		_, err := gotpm.Clear{AuthHandle: gotpm.TPMRHPlatform}.Execute(l.conn)
		l.must(err)
		return
	}
	// TPM_ForceClear; then the TPM is disabled until it is enabled and activated again.
	l.present(
		[]byte{0, 0xc1, 0, 0, 0, 10, 0, 0, 0, 0x5d},
		[]byte{0, 0xc1, 0, 0, 0, 10, 0, 0, 0, 0x6f},
		[]byte{0, 0xc1, 0, 0, 0, 11, 0, 0, 0, 0x72, 0},
	)
}

// switchOffTPM does what firmware does to a TPM that it takes for broken.
func (l *laptop) switchOffTPM() {
	l.t.Helper()
	if l.Version == tpm.V20 {
		// TPM2_HierarchyControl for the owner by the platform, whose password is empty.
		rsp, err := l.conn.Send([]byte{0x80, 2, 0, 0, 0, 32, 0, 0, 1, 0x21, 0x40, 0, 0, 0x0c, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 1, 0, 0, 0x40, 0, 0, 1, 0})
		l.must(err)
		if rc := binary.BigEndian.Uint32(rsp[6:]); rc != 0 {
			l.t.Fatalf("switching the hierarchy off was answered with %#x", rc)
		}
		return
	}
	l.present([]byte{0, 0xc1, 0, 0, 0, 10, 0, 0, 0, 0x73}) // TPM_SetTempDeactivated
}

// present has a TPM 1.2 execute commands that want somebody in front of it, as the
// firmware says that there is (TSC_PhysicalPresence).
func (l *laptop) present(commands ...[]byte) {
	l.t.Helper()
	for _, cmd := range slices.Concat([][]byte{
		{0, 0xc1, 0, 0, 0, 12, 0x40, 0, 0, 0x0a, 0, 0x20},
		{0, 0xc1, 0, 0, 0, 12, 0x40, 0, 0, 0x0a, 0, 0x08},
	}, commands) {
		rsp, err := l.conn.Send(cmd)
		l.must(err)
		if rc := binary.BigEndian.Uint32(rsp[6:]); rc != 0 {
			l.t.Fatalf("command %x was answered with %#x", cmd, rc)
		}
	}
}
