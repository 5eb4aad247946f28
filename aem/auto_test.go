package aem_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

const oldRelease, newRelease = "6.1.0-56-amd64", "6.1.0-57-amd64"

// debian is a laptop with a Debian on it, which has booted the old kernel, proved
// itself, and is to be updated.
type debian struct {
	*laptop
	root    *testbed.DebianRoot
	updated time.Time // when the package manager is run
}

func newDebian(t *testing.T) *debian {
	t.Helper()
	l := newLaptop(t, tpm.V20, drtm.SKINIT)
	d := &debian{laptop: l, root: testbed.NewDebianRoot(t, l.Loader), updated: time.Now().Add(-10 * time.Second).Truncate(time.Second)}
	l.Root, l.Booted = d.root.Dir, func() (time.Time, error) { return d.updated.Add(-time.Hour), nil }
	d.root.InstallKernel(d.updated.Add(-48*time.Hour), oldRelease, "6.1.192-1", testbed.BzImage("old kernel"), []byte("old initramfs"))
	d.choose(oldRelease)
	l.disk("a header")
	l.boot()
	l.setUp("")
	now, err := l.Boot()
	l.must(err)
	l.must(l.home.KeepLog(now.Log))
	l.must(l.home.LearnForms(now, d.root.Boot()))
	d.approvedAt(d.updated.Add(-24 * time.Hour))
	d.bootAndProve()
	return d
}

func (d *debian) bootAndProve() {
	d.t.Helper()
	d.boot()
	d.InInitramfs = true
	d.wantProof()
	d.InInitramfs = false
}

// choose boots a kernel the next time.
func (d *debian) choose(release string) {
	d.t.Helper()
	var err error
	d.LinuxLaunch.Kernel, err = os.ReadFile(d.root.Kernel(release))
	d.must(err)
	d.LinuxLaunch.Initrd, err = os.ReadFile(d.root.Initrd(release))
	d.must(err)
	d.LinuxLaunch.CommandLine = d.root.CommandLine(release)
}

func (d *debian) approvedAt(at time.Time) {
	d.t.Helper()
	d.must(os.Chtimes(filepath.Join(d.homeDir, "approved.aem"), at, at))
}

// update installs a new kernel beside the old one.
func (d *debian) update() {
	d.root.InstallKernel(d.updated, newRelease, "6.1.193-1", testbed.BzImage("new kernel"), []byte("new initramfs"))
}

func (d *debian) plan() *aem.Approval {
	d.t.Helper()
	a, err := d.PlanApproval(d.home, d.root.Boot(), "default", nil)
	d.must(err)
	if a.Known {
		d.t.Fatal("the next boot is approved already")
	}
	return a
}

// wantLeft demands that the approval is left to the owner for the reasons that have
// these words, and for no other.
func (d *debian) wantLeft(words ...string) {
	d.t.Helper()
	got := d.plan().LeftToOwner()
	if len(got) != len(words) {
		d.t.Fatalf("left to the owner is %q; want %q", got, words)
	}
	for i, w := range words {
		if !strings.Contains(got[i], w) {
			d.t.Errorf("left to the owner is %q; want %q", got[i], w)
		}
	}
}

// A kernel update changes the kernel, what follows from it, the initramfs and one word
// of the command line; packages explain all of it, and each in its way.
func TestPackagesExplainAKernelUpdate(t *testing.T) {
	d := newDebian(t)
	d.update()
	a := d.plan()
	if left := a.LeftToOwner(); len(left) != 0 {
		t.Fatalf("left to the owner is %q", left)
	}
	by := map[string]aem.ExplainedBy{}
	for _, c := range a.Changes {
		by[c.What] = c.Explanation.By
	}
	for what, want := range map[string]aem.ExplainedBy{
		"kernel": aem.ByPackage, "kernel boot parameters": aem.ByKernel, "kernel command line": aem.ByFileName, "initramfs": aem.ByGeneration,
	} {
		if got, ok := by[what]; ok && got != want || !ok && what != "kernel boot parameters" {
			t.Errorf("the %s is explained by %q, want %q (all: %v)", what, got, want, by)
		}
	}
	e := a.Changes[0].Explanation
	if e.Package != "linux-image-"+newRelease || e.Version != "6.1.193-1" || e.PreviousVersion != "" {
		t.Errorf("%+v", e)
	}
	if _, err := d.Approve(d.home, a); err != nil {
		t.Fatal(err)
	}
	d.choose(newRelease)
	d.bootAndProve()
}

// What makes an initramfs is always the same package; the owner wants to know which
// update led to it.
func TestTheUpdateBehindAnInitramfsIsNamed(t *testing.T) {
	d := newDebian(t)
	d.root.InstallNote(time.Now().Add(-2*time.Second), "1", []byte("an initramfs with a note"))
	a := d.plan()
	if left := a.LeftToOwner(); len(left) != 0 || len(a.Changes) != 1 {
		t.Fatalf("left to the owner is %q, of %d changes", left, len(a.Changes))
	}
	e := a.Changes[0].Explanation
	if want := []string{"note 1 was installed"}; e.Package != "initramfs-tools" || !slices.Equal(e.Because, want) {
		t.Errorf("%s made it, because %q; want %q", e.Package, e.Because, want)
	}
}

// The evil maid had the disk before the hook ran: one bit of the kernel is hers.
func TestAKernelThatIsNotThePackagesIsLeftToTheOwner(t *testing.T) {
	d := newDebian(t)
	d.update()
	b := testbed.BzImage("new kernel")
	b[len(b)-1] ^= 1
	writeFile(t, d.root.Kernel(newRelease), b)
	d.wantLeft("was changed: its MD5 sum is", "was changed: its MD5 sum is") // the file's name counts for nothing then
}

func TestAChangedCommandLineIsLeftToTheOwner(t *testing.T) {
	for _, arguments := range []string{"root=/dev/sda quiet init=/bin/sh", "root=/dev/sdb quiet", "quiet root=/dev/sda", "root=/dev/sda", "\"root=/dev/sda\tquiet\""} {
		d := newDebian(t)
		d.update()
		d.root.Arguments = arguments
		d.root.UpdateGRUB()
		// The approved line is found: in no entry of the menu any more, but for an old one.
		d.root.Write("boot/grub/grub.cfg", d.menu()+"menuentry 'old' {\n linux /vmlinuz-"+oldRelease+" root=/dev/sda quiet\n}\n")
		d.wantLeft("no package has a say")
	}
}

func (d *debian) menu() string {
	d.t.Helper()
	b, err := os.ReadFile(filepath.Join(d.root.Boot(), "grub/grub.cfg"))
	d.must(err)
	return string(b)
}

// Where the approved line is nowhere any more, nobody can say what differs.
func TestAnApprovedCommandLineThatIsGone(t *testing.T) {
	d := newDebian(t)
	d.update()
	menu := d.menu()
	d.root.Write("boot/grub/grub.cfg", menu[:strings.Index(menu, "menuentry 'Debian GNU/Linux, with")])
	d.wantLeft("the approved one is not known any more")
}

func TestWithoutAProofNothingIsApproved(t *testing.T) {
	const unproven = "has not proved itself"
	d := newDebian(t)
	d.update()
	d.boot() // and the boot goes on without the proof, and without the cap
	d.wantLeft(unproven)
	d.restart() // no launch at all
	d.wantLeft(unproven)
	d.CommandLine += " init=/bin/sh"
	d.boot()
	d.InInitramfs = true
	d.wantRefusal(aem.CauseChanged, aem.ExitMeasurements)
	d.capRefused(aem.CauseChanged, true) // the owner types UNPROVEN
	d.InInitramfs = false
	d.wantLeft(unproven)
}

// Debian's updates of a kernel often keep its name: then the files are replaced.
func TestPackagesExplainAnUpdateInPlace(t *testing.T) {
	d := newDebian(t)
	d.root.InstallKernel(d.updated, oldRelease, "6.1.192-2", testbed.BzImage("mended kernel"), []byte("new initramfs"))
	a := d.plan()
	if left := a.LeftToOwner(); len(left) != 0 {
		t.Fatalf("left to the owner is %q", left)
	}
	if e := a.Changes[0].Explanation; e.Version != "6.1.192-2" || e.PreviousVersion != "6.1.192-1" || e.File != d.root.Kernel(oldRelease) {
		t.Errorf("%+v", e)
	}
	d.root.Arguments += " init=/bin/sh"
	d.root.UpdateGRUB()
	d.root.Write("boot/grub/grub.cfg", d.menu()+"menuentry 'old' {\n linux /vmlinuz-"+oldRelease+" root=/dev/sda quiet\n}\n")
	d.wantLeft("init=/bin/sh was added")
}

func TestALoaderIsLeftToTheOwner(t *testing.T) {
	d := newDebian(t)
	d.update()
	d.root.Loader = append([]byte(nil), d.Loader...)
	d.root.Loader[20] ^= 1
	d.root.UpdateGRUB()
	d.wantLeft("no package has a say in the launched image")
}

// An initramfs is taken for the package manager's only if it was made after the last
// approval, in this session, while dpkg had one made, because of a package.
func TestAnInitramfsOfAnotherTimeIsLeftToTheOwner(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(d *debian)
		word   string
	}{
		{"by hand", func(d *debian) { d.made(d.updated.Add(5 * time.Second)) }, "when no package made an initrd"},
		{"before the last approval", func(d *debian) { d.approvedAt(d.updated.Add(3 * time.Second)) }, "was not made by packages"},
		{"before the machine was started", func(d *debian) {
			d.Booted = func() (time.Time, error) { return d.updated.Add(3 * time.Second), nil }
		}, "not in this session"},
		{"with a forged time", func(d *debian) {
			// The inode is older than this boot; its time of change says the contrary.
			d.Booted = func() (time.Time, error) { return time.Now().Add(time.Hour), nil }
			d.Now = func() time.Time { return time.Now().Add(3 * time.Hour) }
			d.root.Write("var/log/dpkg.log", "")
			d.root.InstallKernel(time.Now().Add(2*time.Hour), newRelease, "6.1.193-2", testbed.BzImage("new kernel"), []byte("new initramfs"))
		}, "not in this session"},
		{"in the future", func(d *debian) {
			d.Now = func() time.Time { return d.updated.Add(-time.Minute) }
		}, "in the future"},
		{"without a reason", func(d *debian) {
			d.root.Write("var/log/dpkg.log", d.updated.Add(time.Second).UTC().Format(time.DateTime)+" trigproc initramfs-tools:amd64 0.142 <none>\n")
		}, "no package that leads to a new one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDebian(t)
			d.update()
			c.change(d)
			d.wantLeft(c.word)
		})
	}
}

func (d *debian) made(at time.Time) {
	d.t.Helper()
	d.must(os.Chtimes(d.root.Initrd(newRelease), at, at))
}

// A disk's header is measured, and no package has a say in it.
func TestADisksHeaderIsLeftToTheOwner(t *testing.T) {
	d := newDebian(t)
	d.update()
	d.disk("another header")
	d.wantLeft("no package changes a disk's header")
}

// A machine without dpkg or rpm is one whose owner is asked.
func TestWithoutRecordsAllIsLeftToTheOwner(t *testing.T) {
	d := newDebian(t)
	d.update()
	d.must(os.Remove(filepath.Join(d.root.Dir, "var/lib/dpkg/status")))
	if left := d.plan().LeftToOwner(); len(left) < 3 || !strings.Contains(left[0], "there are no records") {
		t.Errorf("%q", left)
	}
}
