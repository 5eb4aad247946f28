package maid_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// kind is what machines differ in.
type kind struct {
	family   tpm.Version
	platform drtm.Platform
}

func (k kind) String() string { return k.family.String() + " " + k.platform.Name() }

// kinds are all of them.
var kinds = []kind{{tpm.V20, drtm.SKINIT}, {tpm.V20, drtm.TXT}, {tpm.V12, drtm.SKINIT}, {tpm.V12, drtm.TXT}}

// machine is a laptop with everything that the evil maid can put her hands on. It
// is off unless it was booted.
type machine struct {
	kind
	t   testing.TB
	dir string // holds its folders: medium, home and log

	tpm    string              // folder of the TPM's state
	medium string              // folder that stands for the stick
	files  drtm.LinuxLaunch    // what it boots
	disks  []string            // files that stand for its encrypted disks
	launch func(*machine)      // what happens between power-on and the initramfs
	forge  func([]byte) []byte // what becomes of the launch's log on its way

	tries   aem.Guesses // of the TPM, as it was set up
	old     string      // copy of the stick's records from before the owner sealed again
	running *testbed.Emulator
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) records() string { return filepath.Join(m.medium, aem.RecordsFolder) }
func (m *machine) homeDir() string { return filepath.Join(m.dir, "home") }
func (m *machine) home() aem.Home  { return aem.OpenHome(m.homeDir()) }
func (m *machine) logFile() string { return filepath.Join(m.dir, "log") }

// newMachine makes a machine whose owner sealed a secret on it.
func newMachine(t testing.TB, k kind, disks []string, secret string) *machine {
	t.Helper()
	m := &machine{kind: k, t: t, dir: t.TempDir(), tpm: tpmFolder(t), files: testbed.SampleLaunch(k.platform, k.family), disks: disks}
	m.medium = filepath.Join(m.dir, "medium")
	m.launch, m.forge = (*machine).launchFiles, asIs
	if k.family == tpm.V12 {
		m.must(testbed.MakeEK12(m.tpm))
	}
	m.must(os.MkdirAll(m.medium, 0o700))
	m.boot()
	m.setUp(secret)
	m.off()
	return m
}

// setUp does what the owner does on the first day.
func (m *machine) setUp(secret string) {
	m.t.Helper()
	c := m.open(false)
	defer c.close()
	_, err := c.Init(m.home(), m.medium, nil, uuids...)
	m.must(err)
	m.must(c.SetText(m.home(), []byte(secret)))
	c.seal()
	m.tries, err = c.Chip.Guesses()
	m.must(err)
}

// setUpAnew does what the owner does where nothing brings the old set-up back.
func (m *machine) setUpAnew() {
	m.t.Helper()
	m.boot()
	c := m.open(false)
	m.must(c.Uninstall(m.home()))
	c.close()
	m.boot()
	m.setUp(sentence)
}

// tpmFolder is a folder whose path is short enough for a socket in it.
func tpmFolder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "aem-maid-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// copy is the same machine once more, for another test.
func (m *machine) copy(t testing.TB) *machine {
	t.Helper()
	c := *m
	c.t, c.dir, c.tpm, c.disks = t, t.TempDir(), tpmFolder(t), slices.Clone(m.disks)
	c.medium = filepath.Join(c.dir, "medium")
	m.must(os.CopyFS(c.dir, os.DirFS(m.dir)))
	c.copyTPM(m.tpm)
	// The set-up names the folder of the medium's records.
	setup := filepath.Join(c.dir, "home/setup.json")
	c.write(setup, bytes.ReplaceAll(c.read(setup), []byte(m.dir), []byte(c.dir)))
	t.Cleanup(func() {
		if c.running != nil {
			c.running.Stop()
		}
	})
	return &c
}

// copyTPM puts the state of a TPM that is off into the machine's empty TPM folder.
func (m *machine) copyTPM(from string) {
	m.t.Helper()
	states, err := filepath.Glob(filepath.Join(from, "tpm*"))
	m.must(err)
	if len(states) == 0 {
		m.t.Fatal("the TPM left no state")
	}
	for _, f := range states {
		m.write(filepath.Join(m.tpm, filepath.Base(f)), m.read(f))
	}
}

func (m *machine) read(path string) []byte {
	m.t.Helper()
	b, err := os.ReadFile(path)
	m.must(err)
	return b
}

func (m *machine) write(path string, b []byte) {
	m.t.Helper()
	m.must(os.WriteFile(path, b, 0o600))
}

// contents are the files under a folder.
func (m *machine) contents(dir string) map[string]string {
	m.t.Helper()
	files := map[string]string{}
	m.must(filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files[path] = string(m.read(path))
		}
		return err
	}))
	return files
}

// putBack makes the files under a folder those of an earlier time.
func (m *machine) putBack(dir string, files map[string]string) {
	m.t.Helper()
	if maps.Equal(m.contents(dir), files) {
		return
	}
	m.must(os.RemoveAll(dir))
	for path, content := range files {
		m.must(os.MkdirAll(filepath.Dir(path), 0o700))
		m.write(path, []byte(content))
	}
}

// off switches the machine off, as its operating system does.
func (m *machine) off() {
	m.t.Helper()
	if m.running == nil {
		return
	}
	c, err := m.running.Connect()
	m.must(err)
	m.must(testbed.PowerOff(c, m.family))
	c.Close()
	m.running.Stop()
	m.running = nil
}

// on switches it on, as far as the firmware: the TPM is started and not launched.
func (m *machine) on() {
	m.t.Helper()
	m.off()
	var err error
	m.running, err = testbed.StartEmulator(m.tpm, m.family)
	m.must(err)
	m.connected(func(c *swtpm.TPM) { m.must(testbed.PowerOn(c, m.family)) })
}

// connected talks to the TPM of a machine that is on.
func (m *machine) connected(do func(*swtpm.TPM)) {
	m.t.Helper()
	c, err := m.running.Connect()
	m.must(err)
	defer c.Close()
	do(c)
}

// boot switches it off and on again and lets it boot as far as the initramfs.
func (m *machine) boot() {
	m.t.Helper()
	m.on()
	m.write(m.logFile(), nil)
	m.launch(m)
}

// launchFiles is the dynamic launch of what lies on the disk.
func (m *machine) launchFiles() {
	m.t.Helper()
	m.connected(func(c *swtpm.TPM) {
		log, err := testbed.LaunchLinux(c, m.files)
		m.must(err)
		m.write(m.logFile(), m.forge(log))
	})
}

func asIs(log []byte) []byte { return log }

// client is a program that has opened the machine's TPM and log.
type client struct {
	*aem.Machine
	m     *machine
	close func()
}

// open opens the machine as the programs do; inInitramfs is the boot's own.
func (m *machine) open(inInitramfs bool) *client {
	m.t.Helper()
	opened, closer, err := aem.Open(aem.Where{TPM: "swtpm:" + m.running.Socket(), Log: m.logFile()}, nil)
	m.must(err)
	opened.InInitramfs = inInitramfs
	return &client{opened, m, func() { closer.Close() }}
}

// seal seals the kept secret to the present boot.
func (c *client) seal() {
	c.m.t.Helper()
	c.m.must(c.findDisks(uuids))
	boot, err := c.Boot()
	c.m.must(err)
	state, err := boot.Present("the owner's")
	c.m.must(err)
	_, err = c.Seal(c.m.home(), []seal.State{*state}, nil)
	c.m.must(err)
}

// findDisks looks at the machine's disks as the boot does: each file stands for a block
// device of a machine whose dev and sys lie in a folder.
func (c *client) findDisks(wanted []string) error {
	m := c.m
	m.t.Helper()
	root := m.t.TempDir()
	m.must(os.Mkdir(filepath.Join(root, "dev"), 0o700))
	for i, path := range m.disks {
		info, err := os.Stat(path)
		m.must(err)
		name := fmt.Sprintf("vd%c", 'a'+i)
		sys := filepath.Join(root, "sys/class/block", name)
		m.must(os.MkdirAll(sys, 0o700))
		m.write(filepath.Join(sys, "size"), []byte(strconv.FormatInt(info.Size()/512, 10)))
		m.must(os.Symlink(path, filepath.Join(root, "dev", name)))
	}
	var err error
	c.Disks, err = aem.ReadDisks(root, wanted, 0)
	return err
}

// outcome is what the owner gets to see, and a script gets.
type outcome struct {
	Secret string
	Cause  aem.Cause
	Exit   aem.Exit
	Names  []string // what it says was changed
	said   string   // the sentence, with its detail
	medium seal.MediumID
}

// see makes an outcome of what a use case returned.
func see(proof *aem.Proof, err error) outcome {
	if err == nil {
		return outcome{Secret: string(proof.Secret), medium: proof.Record.Medium}
	}
	r := aem.Refuse(err)
	o := outcome{Cause: r.Cause, Exit: r.Exit(), said: r.Error()}
	for _, c := range r.Changes {
		o.Names = append(o.Names, c.What)
	}
	return o
}

// prove lets a machine that was booted prove itself, as aem unseal does.
func (m *machine) prove() outcome {
	m.t.Helper()
	c := m.open(true)
	defer c.close()
	o := c.prove()
	result := aem.Outcome{Result: aem.ResultRefused, Cause: o.Cause}
	if o.Cause == "" {
		result = aem.Outcome{Result: aem.ResultProved, Medium: o.medium}
	}
	m.must(c.Cap(result))
	return o
}

func (c *client) prove() outcome {
	c.m.t.Helper()
	if err := c.findDisks(uuids); err != nil {
		return see(nil, err)
	}
	records, err := aem.ReadMedium([]string{c.m.medium}, 0)
	if err != nil {
		return see(nil, err)
	}
	return see(c.Prove(c.m.t.Context(), records, func(context.Context, *aem.Guesses) ([]byte, error) {
		return nil, errors.New("the secret has no PIN, and one is asked for")
	}))
}

// guesses is what the TPM says of its defence against guessing.
func (m *machine) guesses() aem.Guesses {
	m.t.Helper()
	c := m.open(false)
	defer c.close()
	g, err := c.Chip.Guesses()
	m.must(err)
	return g
}
