package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

const oldRelease, newRelease = "6.1.0-56-amd64", "6.1.0-57-amd64"

// debian is a laptop with a Debian on it.
type debian struct {
	*laptop
	root *testbed.DebianRoot
}

func newDebian(t *testing.T) *debian {
	t.Helper()
	d := &debian{laptop: newLaptop(t, tpm.V20)}
	d.root = testbed.NewDebianRoot(t, d.launch.Loader)
	d.root.InstallKernel(time.Now().Add(-48*time.Hour), oldRelease, "6.1.192-1", testbed.BzImage("old"), []byte("old initramfs"))
	d.choose(oldRelease)
	d.boot()
	return d
}

// sealed is one that was set up yesterday and has proved itself in this boot.
func sealed(t *testing.T) *debian {
	t.Helper()
	d := newDebian(t)
	d.want(aem.ExitOK, "Ready.", "", "init", "--no-disks", "--medium", d.dir)
	d.want(aem.ExitOK, "Kept.", sentence+"\n", "secret", "set", "text")
	d.want(aem.ExitOK, "Sealed as generation 2", "", "seal", "--label", "Monday", "--boot", d.root.Boot())
	yesterday := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(filepath.Join(d.dir, "home/approved.aem"), yesterday, yesterday); err != nil {
		t.Fatal(err)
	}
	d.cap()
	return d
}

// cap ends a proof, as aem unseal does.
func (d *debian) cap() {
	d.t.Helper()
	m, closer, err := aem.Open(aem.Where{TPM: "swtpm:" + d.socket, Log: filepath.Join(d.dir, "log")}, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	defer closer.Close()
	s, err := aem.OpenHome(filepath.Join(d.dir, "home")).Setup()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := m.Cap(aem.Outcome{Result: aem.ResultProved, Medium: seal.MediumID(s.Media[0].ID)}); err != nil {
		d.t.Fatal(err)
	}
}

func (d *debian) choose(release string) {
	d.t.Helper()
	var err error
	if d.launch.Kernel, err = os.ReadFile(d.root.Kernel(release)); err != nil {
		d.t.Fatal(err)
	}
	if d.launch.Initrd, err = os.ReadFile(d.root.Initrd(release)); err != nil {
		d.t.Fatal(err)
	}
	d.launch.CommandLine = d.root.CommandLine(release)
}

// update is what a package manager's run does in this moment, before its hooks.
func (d *debian) update() {
	d.root.InstallKernel(time.Now().Add(-2*time.Second), newRelease, "6.1.193-1", testbed.BzImage("new"), []byte("new initramfs"))
}

// auto is what the hooks run.
func (d *debian) auto(exit aem.Exit, text string, more ...string) string {
	d.t.Helper()
	out := d.want(exit, text, "", append([]string{"approve", "--auto", "--root", d.root.Dir, "--boot", d.root.Boot()}, more...)...)
	if text == "" && out != "" {
		d.t.Errorf("it says %q; want nothing", out)
	}
	return out
}

// wantUnchanged runs something that must seal nothing and approve nothing.
func (d *debian) wantUnchanged(run func()) {
	d.t.Helper()
	before := d.state()
	run()
	if after := d.state(); after != before {
		d.t.Errorf("it changed what is sealed from\n%sto\n%s", before, after)
	}
}

// state is what is approved, and every record and its content.
func (d *debian) state() string {
	d.t.Helper()
	_, text := d.setup("", "approve", "--list")
	files, err := filepath.Glob(filepath.Join(d.dir, aem.RecordsFolder, "*"))
	if err != nil || len(files) == 0 {
		d.t.Fatalf("%d records, %v", len(files), err)
	}
	for _, name := range append(files, filepath.Join(d.dir, "home/approved.aem")) {
		b, err := os.ReadFile(name)
		if err != nil {
			d.t.Fatal(err)
		}
		text += name + "\n" + string(b) + "\n"
	}
	return text
}

func TestAnExplainedUpdateIsApprovedWithoutAsking(t *testing.T) {
	d := sealed(t)
	d.auto(aem.ExitOK, "") // nothing was updated
	d.update()
	d.wantUnchanged(func() { d.auto(aem.ExitOK, "Nothing was sealed", "--dry-run") })
	d.auto(aem.ExitOK, "what changed comes from linux-image-"+newRelease+" 6.1.193-1")
	d.auto(aem.ExitOK, "") // it is approved already
	out := d.want(aem.ExitOK, "Debian GNU/Linux was approved without asking", "", "journal")
	if !strings.Contains(out, `packages="linux-image-`+newRelease+` 6.1.193-1"`) {
		t.Errorf("the journal does not name the package: %s", out)
	}
	d.choose(newRelease)
	d.boot()
	d.want(aem.ExitOK, "(this boot)", "", "status")
}

// Her kernel, her words in the boot loader's menu, and a boot that did not prove
// itself: nothing of that is approved without the owner.
func TestWhatPackagesDoNotExplainIsLeftToTheOwner(t *testing.T) {
	for _, c := range []struct {
		name, word string
		change     func(d *debian)
	}{
		{"kernel", "kernel: /boot/vmlinuz-" + newRelease + " was changed", func(d *debian) {
			b := testbed.BzImage("new")
			b[len(b)-1] ^= 1
			d.root.Write("boot/vmlinuz-"+newRelease, string(b))
		}},
		{"command line", "kernel command line: in the command line", func(d *debian) {
			d.root.Arguments += " init=/bin/sh"
			d.root.UpdateGRUB()
			old := "menuentry 'old' {\n linux /vmlinuz-" + oldRelease + " root=/dev/sda quiet\n}\n"
			b, err := os.ReadFile(filepath.Join(d.root.Boot(), "grub/grub.cfg"))
			if err != nil {
				d.t.Fatal(err)
			}
			d.root.Write("boot/grub/grub.cfg", string(b)+old)
		}},
		{"boot that was not proved", "this boot has not proved itself", func(d *debian) { d.boot() }},
		{"unapproved boot", "this boot has not proved itself", func(d *debian) {
			d.launch.Initrd = []byte("the evil maid's")
			d.boot()
			d.cap()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := sealed(t)
			d.update()
			c.change(d)
			d.wantUnchanged(func() {
				d.auto(aem.ExitMeasurements, c.word)
				out := d.auto(aem.ExitMeasurements, "left_to_owner", "--json")
				var r struct {
					Left    []string     `json:"left_to_owner"`
					Changes []aem.Change `json:"changes"`
				}
				line := out[strings.Index(out, "{"):]
				if err := json.Unmarshal([]byte(line), &r); err != nil || len(r.Left) == 0 || len(r.Changes) == 0 || r.Changes[0].Explanation == nil {
					t.Errorf("%v: %q", err, out)
				}
			})
			d.want(aem.ExitOK, "left to the owner: Debian GNU/Linux: ", "", "journal")
			// The owner may approve all the same.
			d.want(aem.ExitOK, "sealed as generation", "", "approve", "--yes", "--root", d.root.Dir, "--boot", d.root.Boot())
		})
	}
}

// Hooks run on every machine that has the programs, and must not make a package
// manager fail.
func TestAutoIsSilentWhereNothingWasSealed(t *testing.T) {
	d := newDebian(t)
	d.update()
	d.auto(aem.ExitOK, "")
	d.withoutTPM(func() { d.auto(aem.ExitOK, "") })
	d.want(aem.ExitOK, "Ready.", "", "init", "--no-disks", "--medium", d.dir)
	d.auto(aem.ExitOK, "")
	d.want(aem.ExitUsage, "goes with none of", "", "approve", "--auto", "--yes")
}

func (d *debian) withoutTPM(run func()) {
	socket := d.socket
	d.socket += ".away"
	run()
	d.socket = socket
}

// Sealed, but without the TPM or the medium: that is said, and no success.
func TestAutoWithoutATPMOrMedium(t *testing.T) {
	d := sealed(t)
	d.update()
	records := filepath.Join(d.dir, aem.RecordsFolder)
	if err := os.Rename(records, records+".away"); err != nil {
		t.Fatal(err)
	}
	d.auto(aem.ExitError, aem.ErrMediumAway.Error())
	if err := os.Rename(records+".away", records); err != nil {
		t.Fatal(err)
	}
	d.want(aem.ExitOK, "Monday\n", "", "approve", "--list")
	d.withoutTPM(func() { d.auto(aem.ExitError, "connect to the TPM") })
	d.auto(aem.ExitOK, "is approved; what changed comes from")
}

// What the owner is shown before the question, and what programs get.
func TestApproveSaysWhatPackagesSay(t *testing.T) {
	d := sealed(t)
	d.update()
	args := []string{"approve", "--dry-run", "--root", d.root.Dir, "--boot", d.root.Boot()}
	out := d.want(aem.ExitOK, "it belongs to linux-image-"+newRelease+" 6.1.193-1, which was installed on", "", args...)
	for _, word := range []string{"initramfs", "explained", "approved", "now", "its content was recorded nowhere", "BOOT_IMAGE=/vmlinuz-" + oldRelease + " became"} {
		if !strings.Contains(out, word) {
			t.Errorf("the dry run lacks %q: %s", word, out)
		}
	}
	b, err := os.ReadFile(d.root.Initrd(newRelease))
	if err != nil {
		t.Fatal(err)
	}
	d.root.Write("boot/initrd.img-"+newRelease, string(b)) // made by hand, a minute later
	later := time.Now().Add(time.Minute)
	if err := os.Chtimes(d.root.Initrd(newRelease), later, later); err != nil {
		t.Fatal(err)
	}
	d.want(aem.ExitOK, "open      /boot/initrd.img-"+newRelease+" was written on", "", args...)
}

// An approval that did not reach the medium is finished by the next one.
func TestAnApprovalThatWasCutShortIsFinished(t *testing.T) {
	d := sealed(t)
	d.update()
	approve := []string{"approve", "--yes", "--root", d.root.Dir, "--boot", d.root.Boot()}
	// A medium that was away while something was approved is the same case.
	stick := filepath.Join(d.dir, "stick")
	d.want(aem.ExitOK, "blue is a medium now", "", "media", "add", "blue", stick)
	if err := os.Rename(stick, stick+".away"); err != nil {
		t.Fatal(err)
	}
	d.want(aem.ExitOK, "blue is not here", "", approve...)
	d.want(aem.ExitOK, "is approved already", "", approve...)
	if err := os.Rename(stick+".away", stick); err != nil {
		t.Fatal(err)
	}
	d.want(aem.ExitOK, "not sealed on blue yet", "", append(approve[:1:1], append(approve[2:], "--dry-run")...)...)
	d.want(aem.ExitOK, "blue: sealed as generation", "", approve...)
	d.want(aem.ExitOK, "Every medium is up to date", "", "media", "sync")
}

// The static root's next values can't be computed: the owner knows, and is not told so
// at each update.
func TestAutoIsSilentOnTheStaticRoot(t *testing.T) {
	d := newDebian(t)
	conn, err := swtpm.Dial(d.socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := testbed.PowerOn(conn, tpm.V20); err != nil {
		t.Fatal(err)
	}
	for _, p := range []tpm.PCR{0, 8, 9} {
		if err := testbed.Extend(conn, tpm.V20, 0, p, tpm.SumAll(d.launch.Algs, []byte("measured"))); err != nil {
			t.Fatal(err)
		}
	}
	conn.Close()
	d.want(aem.ExitOK, "Ready.", "", "init", "--no-disks", "--medium", d.dir)
	d.want(aem.ExitOK, "Kept.", sentence+"\n", "secret", "set", "text")
	d.want(aem.ExitOK, "Sealed as generation 2", "", "seal", "--static-root", "--boot", d.root.Boot())
	d.update()
	d.wantUnchanged(func() { d.auto(aem.ExitOK, "") })
	d.want(aem.ExitNotPossible, "can't be computed", "", "approve", "--yes", "--boot", d.root.Boot())
}
