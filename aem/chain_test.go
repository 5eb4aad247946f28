package aem_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/internal/bootentry"
	"github.com/antievilmaid/aem/internal/initramfs"
	"github.com/antievilmaid/aem/internal/stage1"
	"github.com/antievilmaid/aem/internal/stage1/config"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// chained is a laptop with an entry that launches Linux alone, and one that launches the
// same Linux with a stage 1, which starts Xen from a disk of its own.
type chained struct {
	*laptop
	boot, disk  string // the folders that GRUB and stage 1 read
	told        config.Config
	description []byte
	key         ed25519.PrivateKey
	policyKey   []byte

	xen, kernel, initrd, line, dom0 string // on the disk
}

const chainDisk = "UUID=0a1b2c3d-0000-4000-8000-000000000000"

func newChained(t *testing.T, v tpm.Version, p drtm.Platform) *chained {
	t.Helper()
	c := &chained{
		laptop: newLaptop(t, v, p), boot: t.TempDir(), disk: t.TempDir(),
		told: config.Config{Mounts: []config.Mount{{Disk: chainDisk, Folder: config.BootFolder}}, Entry: "default"},
		key:  ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)),
		xen:  "xen", kernel: string(testbed.BzImage("dom0's kernel")), initrd: "dom0's initramfs", line: "dom0_mem=1G no-real-mode", dom0: "root=/dev/sda quiet",
	}
	c.Mounted = func(disk, folder string) (string, error) {
		if disk != chainDisk || folder != config.BootFolder {
			t.Errorf("asked for %s on %s", disk, folder)
		}
		return c.disk, nil
	}
	c.write()
	return c
}

// describe has stage 1 follow a description in place of the menu.
func (c *chained) describe(d launch.Description) {
	c.t.Helper()
	var err error
	c.description, err = json.Marshal(d)
	c.must(err)
	c.told.Entry = ""
	c.write()
}

// write writes both disks as they are now.
func (c *chained) write() {
	c.t.Helper()
	told, err := json.Marshal(c.told)
	c.must(err)
	var a initramfs.Archive
	a.File(config.Init, 0o755, []byte("aem"))
	a.File(config.Path, 0o644, told)
	if c.description != nil {
		a.File(config.DescriptionPath, 0o644, c.description)
	}
	if c.policyKey != nil {
		a.File(config.PolicyKeyPath, 0o644, c.policyKey)
	}
	image, err := a.Gzip()
	c.must(err)
	for _, dir := range []string{c.boot, c.disk} {
		c.must(os.MkdirAll(filepath.Join(dir, "grub"), 0o700))
	}
	for path, content := range map[string]string{
		c.boot + "/vmlinuz": string(c.Kernel), c.boot + "/initrd.img": "the system's initramfs", c.boot + "/stage1.img": string(image), c.boot + "/loader.bin": string(c.Loader),
		c.boot + "/grub/grub.cfg": "menuentry 'Stage 1' {\n slaunch skinit\n slaunch_module /loader.bin\n linux /vmlinuz panic=10\n initrd /stage1.img\n}\n" +
			"menuentry 'Alone' {\n slaunch skinit\n slaunch_module /loader.bin\n linux /vmlinuz root=/dev/sda\n initrd /initrd.img\n}\n",
		c.disk + "/xen.gz": string(packedXen(c.t, c.xen)), c.disk + "/vmlinuz": c.kernel, c.disk + "/initrd.img": string(packedXen(c.t, c.initrd)),
		c.disk + "/grub/grub.cfg": "search --no-floppy --fs-uuid --set=root " + strings.TrimPrefix(chainDisk, "UUID=") + "\n" +
			"menuentry 'Xen' {\n multiboot2 /xen.gz " + c.line + "\n module2 /vmlinuz " + c.dom0 + "\n module2 /initrd.img\n}\n",
	} {
		writeFile(c.t, path, []byte(content))
	}
}

// stage is what stage 1 starts, put together by hand: of an entry, GRUB unpacks all modules.
func (c *chained) stage() *drtm.Stage {
	initrd := []byte(c.initrd)
	if c.description != nil {
		initrd = packedXen(c.t, c.initrd)
	}
	return &drtm.Stage{Kind: drtm.Xen, Image: []byte(c.xen), Line: c.line, Modules: []drtm.Module{{Content: []byte(c.kernel), Line: c.dom0}, {Content: initrd}}}
}

// bootAlone launches Linux, which starts nothing else.
func (c *chained) bootAlone() {
	c.Initrd, c.CommandLine = []byte("the system's initramfs"), "BOOT_IMAGE=/vmlinuz root=/dev/sda"
	c.laptop.boot()
}

// bootChain launches Linux with stage 1, and measures what that starts.
func (c *chained) bootChain(approval *drtm.Approval, stage *drtm.Stage) {
	c.t.Helper()
	image, err := os.ReadFile(c.boot + "/stage1.img")
	c.must(err)
	c.Initrd, c.CommandLine = image, "BOOT_IMAGE=/vmlinuz panic=10"
	c.laptop.boot()
	ms, err := stage.Measurements(c.Algs)
	c.must(err)
	if approval != nil {
		ms = append(approval.Measurements(c.Algs), ms...)
	}
	for _, m := range ms {
		c.must(testbed.Extend(c.conn, c.Version, m.Locality, m.PCR, m.Digests))
		c.must(c.log.Append(m.Event()))
	}
}

// entry are the files of an entry of GRUB's menu.
func (c *chained) entry(name string) *drtm.Boot {
	c.t.Helper()
	menu, err := aem.BootMenu(c.boot)
	c.must(err)
	e, err := menu.Find(name)
	c.must(err)
	files, err := aem.BootOf(menu, e, c.log)
	c.must(err)
	return files
}

// next is the state of a boot that did not take place yet.
func (c *chained) next(name string) (*seal.State, error) {
	now, err := c.Boot()
	c.must(err)
	return c.Next(now, c.entry(name), c.boot, name)
}

// sealed is one that was sealed to its chain before that ever booted.
func sealedChain(t *testing.T, v tpm.Version, p drtm.Platform, change func(*chained)) *chained {
	t.Helper()
	c := newChained(t, v, p)
	change(c)
	c.bootAlone()
	_, err := c.Init(c.home, c.medium, nil)
	c.must(err)
	c.must(c.SetText(c.home, []byte(sentence)))
	state, err := c.next("Stage 1")
	c.must(err)
	_, err = c.Seal(c.home, []seal.State{*state}, nil)
	c.must(err)
	now, err := c.Boot()
	c.must(err)
	c.must(c.home.KeepLog(now.Log))
	c.must(c.home.LearnForms(now, c.boot))
	return c
}

// described is the description of what the menu of a chained laptop starts.
func described(c *chained) {
	c.describe(launch.Description{
		Hypervisor: &launch.File{Path: "/boot/xen.gz", Line: c.line}, Kernel: launch.File{Path: "/boot/vmlinuz", Line: c.dom0}, Initrd: &launch.File{Path: "/boot/initrd.img"},
	})
}

// policed has stage 1 ask a policy that approves of what is on the disk.
func policed(c *chained) {
	c.policyKey = launch.PublicKeyFile(c.key.Public().(ed25519.PublicKey))
	c.told.Policy = &config.Policy{File: "/boot/launch.policy", Oldest: 1}
	c.write()
	c.sign()
}

func (c *chained) sign() {
	c.t.Helper()
	approved, err := launch.Approve("Xen", c.stage(), tpm.SHA256)
	c.must(err)
	now := time.Now().UTC()
	p := launch.Policy{Version: 1, Issued: now.AddDate(0, 0, -1), Expires: now.AddDate(0, 0, 1), Hash: "sha256", Approved: []launch.Approved{approved}}
	file, err := p.Sign(c.key)
	c.must(err)
	writeFile(c.t, c.disk+"/launch.policy", file)
}

func (c *chained) approval() *drtm.Approval {
	if c.told.Policy == nil {
		return nil
	}
	return &drtm.Approval{Key: c.key.Public().(ed25519.PublicKey), Approved: true}
}

// Sealed in a boot of another initramfs, the secret opens at the chain's first boot, on
// both families, whatever stage 1 follows and asks.
func TestChainIsSealedToBeforeItsFirstBoot(t *testing.T) {
	for name, x := range map[string]struct {
		v      tpm.Version
		p      drtm.Platform
		change func(*chained)
	}{
		"menu, TPM 2.0":               {tpm.V20, drtm.SKINIT, func(*chained) {}},
		"menu, TPM 1.2, policy":       {tpm.V12, drtm.TXT, policed},
		"description, TPM 2.0":        {tpm.V20, drtm.TXT, described},
		"description, 1.2 by SKINIT":  {tpm.V12, drtm.SKINIT, described},
		"description, policy, by TXT": {tpm.V20, drtm.TXT, func(c *chained) { described(c); policed(c) }},
	} {
		t.Run(name, func(t *testing.T) {
			c := sealedChain(t, x.v, x.p, x.change)
			c.bootChain(c.approval(), c.stage())
			c.wantProof()
			evil := c.stage()
			evil.Modules[0].Line += " init=/bin/sh"
			c.bootChain(c.approval(), evil)
			r := c.wantRefusal(aem.CauseChanged, aem.ExitMeasurements)
			if len(r.Changes) != 1 || r.Changes[0].What != "dom0's kernel command line" {
				t.Errorf("named are %+v", r.Changes)
			}
		})
	}
}

// whats are the names of what an approval changes, in order.
func whats(a *aem.Approval) []string {
	var list []string
	for _, c := range a.Changes {
		list = append(list, c.What)
	}
	slices.Sort(list)
	return list
}

// An update of the system behind stage 1 is approved before the reboot as one without a
// chain is, and every part of it is named.
func TestAnUpdateBehindAChainIsApprovedBeforeItBoots(t *testing.T) {
	for name, x := range map[string]struct {
		v      tpm.Version
		change func(*chained)
		want   []string
	}{
		"menu": {tpm.V20, policed, []string{"dom0's initramfs", "dom0's kernel", "dom0's kernel command line", "hypervisor", "hypervisor's command line"}},
		// Its lines stand in stage 1, so they change with that.
		"description": {tpm.V12, described, []string{"dom0's initramfs", "dom0's kernel", "dom0's kernel command line", "hypervisor", "hypervisor's command line", "stage 1's initramfs"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := sealedChain(t, x.v, drtm.TXT, x.change)
			c.bootChain(c.approval(), c.stage())
			c.wantProof()
			if a, err := c.PlanApproval(c.home, c.boot, "Stage 1", nil); err != nil || !a.Known || a.Assumed {
				t.Fatalf("before the update: %+v, %v", a, err)
			}
			old := *c
			c.xen, c.kernel, c.initrd, c.line, c.dom0 = "xen, newer", string(testbed.BzImage("newer")), "newer initramfs", c.line+" loglvl=all", c.dom0+" new=yes"
			x.change(c)
			c.write()
			a, err := c.PlanApproval(c.home, c.boot, "Stage 1", nil)
			c.must(err)
			if diff := cmp.Diff(x.want, whats(a)); diff != "" || a.Known || a.Assumed {
				t.Errorf("known %t, assumed %t, changes (-want +got)\n%s", a.Known, a.Assumed, diff)
			}
			if _, err := c.Approve(c.home, a); err != nil {
				t.Fatal(err)
			}
			c.bootChain(c.approval(), c.stage())
			c.wantProof()
			if c.told.Entry == "" {
				return // another stage 1 lies there now
			}
			if a.Next.Label != "Stage 1, then Xen" || !slices.Contains(a.Files, filepath.Join(c.disk, "xen.gz")) {
				t.Errorf("%q, files %q", a.Next.Label, a.Files)
			}
			c.bootChain(c.approval(), old.stage()) // the new one did not boot
			c.wantProof()
		})
	}
}

// Packages explain the files behind stage 1 as those of a launch; lines are the owner's.
func TestPackagesExplainWhatStageOneStarts(t *testing.T) {
	root := testbed.NewDebianRoot(t, nil)
	c := sealedChain(t, tpm.V20, drtm.SKINIT, func(c *chained) {
		c.disk, c.Root = root.Boot(), root.Dir
		c.write()
	})
	c.bootChain(nil, c.stage())
	c.xen, c.dom0 = "xen, newer", c.dom0+" debug"
	root.InstallPackage("xen-hypervisor", "2", map[string][]byte{"boot/xen.gz": packedXen(t, c.xen)})
	c.write()
	a, err := c.PlanApproval(c.home, c.boot, "Stage 1", nil)
	c.must(err)
	explained := map[string]string{}
	for _, x := range a.Changes {
		explained[x.What] = string(x.Explanation.By) + " " + x.Explanation.Package
	}
	if diff := cmp.Diff(map[string]string{"hypervisor": "package xen-hypervisor", "dom0's kernel command line": " "}, explained); diff != "" {
		t.Errorf("explained (-want +got)\n%s", diff)
	}
}

// Of two disks that stage 1 mounts above one another the last one counts.
func TestDisksAboveOneAnother(t *testing.T) {
	c := newChained(t, tpm.V20, drtm.SKINIT)
	lower := t.TempDir()
	c.must(os.MkdirAll(filepath.Join(lower, "efi"), 0o700))
	writeFile(t, filepath.Join(lower, "efi/vmlinuz"), []byte("hidden"))
	c.told.Mounts = []config.Mount{{Disk: "/dev/lower", Folder: "/boot"}, {Disk: "/dev/upper", Folder: "/boot/efi"}}
	c.Mounted = func(disk, _ string) (string, error) {
		return map[string]string{"/dev/lower": lower, "/dev/upper": c.disk}[disk], nil
	}
	c.describe(launch.Description{Kernel: launch.File{Path: "/boot/efi/vmlinuz"}})
	chain, err := aem.ChainOf(c.entry("Stage 1"), nil, c.Mounted, time.Now)
	c.must(err)
	if string(chain.Stage.Image) != c.kernel {
		t.Errorf("read was %.20q", chain.Stage.Image)
	}
}

// From a chain back to a launch without one, and the other way: the state that runs is the
// ground in both directions.
func TestAChainIsLeftAndEnteredByApproval(t *testing.T) {
	c := sealedChain(t, tpm.V20, drtm.SKINIT, func(*chained) {})
	c.bootChain(nil, c.stage())
	a, err := c.PlanApproval(c.home, c.boot, "Alone", nil)
	c.must(err)
	if _, err := c.Approve(c.home, a); err != nil {
		t.Fatal(err)
	}
	c.bootAlone()
	c.wantProof()
	c.line += " loglvl=all"
	c.write()
	a, err = c.PlanApproval(c.home, c.boot, "Stage 1", nil)
	c.must(err)
	if _, err := c.Approve(c.home, a); err != nil {
		t.Fatal(err)
	}
	c.bootChain(nil, c.stage())
	c.wantProof()
}

// What stage 1 would refuse is refused when it is to be approved, and said.
func TestWhatStageOneWouldNotStartIsNotApproved(t *testing.T) {
	notMounted := errors.New("mounted nowhere")
	for name, x := range map[string]struct {
		change func(*chained)
		want   error
		says   string
	}{
		"a file is missing":        {func(c *chained) { c.must(os.Remove(c.disk + "/initrd.img")) }, fs.ErrNotExist, "initrd.img"},
		"no such entry":            {func(c *chained) { c.told.Entry = "Other"; c.write() }, bootentry.ErrNoEntry, "Other"},
		"the disk is not mounted":  {func(c *chained) { c.Mounted = func(string, string) (string, error) { return "", notMounted } }, notMounted, ""},
		"no such disk":             {func(c *chained) { c.told.Mounts[0].Disk = "UUID=none"; c.write(); c.Mounted = nil }, aem.ErrNoMedium, "that stage 1 mounts on /boot"},
		"not mounted in fact":      {func(c *chained) { c.told.Mounts[0].Disk = "/dev/null"; c.write(); c.Mounted = nil }, nil, "mounted nowhere"},
		"a BIOS under UEFI":        {func(c *chained) { c.UEFI, c.line = true, "dom0_mem=1G"; c.write() }, stage1.ErrUEFI, "no-real-mode"},
		"a stage 1 from elsewhere": {func(c *chained) { c.told.Entry = ""; c.write() }, config.ErrConfig, "either a description or"},
		"not where it mounts": {func(c *chained) {
			c.describe(launch.Description{Kernel: launch.File{Path: "/vmlinuz"}})
		}, nil, "on no disk that stage 1 mounts"},
		"a link that leads out": {func(c *chained) {
			described(c)
			c.must(os.Remove(c.disk + "/vmlinuz"))
			c.must(os.Symlink("/proc/version", c.disk+"/vmlinuz"))
		}, nil, "outside of the disk"},
		"a bad description": {func(c *chained) {
			c.description, c.told.Entry = []byte("{"), ""
			c.write()
		}, launch.ErrDescription, ""},
		"another kernel than the policy's": {func(c *chained) {
			policed(c)
			c.kernel = string(testbed.BzImage("not approved"))
			c.write()
		}, launch.ErrNotApproved, "kernel"},
		"itself again": {func(c *chained) {
			// GRUB's own menu, whose default entry is the launch of stage 1.
			c.Mounted = func(string, string) (string, error) { return c.boot, nil }
		}, aem.ErrNotPossible, "a stage 1 again"},
		"no policy": {func(c *chained) { policed(c); c.must(os.Remove(c.disk + "/launch.policy")) }, launch.ErrNotApproved, "launch.policy"},
		"an old policy": {func(c *chained) {
			policed(c)
			c.told.Policy.Oldest = 2
			c.write()
		}, launch.ErrOldPolicy, ""},
		"an expired policy": {func(c *chained) {
			policed(c)
			later := time.Now().AddDate(0, 0, 2) // the sentence names the second
			c.Now = func() time.Time { return later }
		}, launch.ErrExpired, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := sealedChain(t, tpm.V20, drtm.SKINIT, func(*chained) {})
			x.change(c)
			a, err := c.PlanApproval(c.home, c.boot, "Stage 1", nil)
			if err == nil || x.want != nil && !errors.Is(err, x.want) || !strings.Contains(err.Error(), x.says) {
				t.Errorf("approved: %t, %v", a != nil, err)
			}
			if s, err2 := c.next("Stage 1"); err2 == nil || err != nil && err2.Error() != err.Error() {
				t.Errorf("sealed: %t, %v", s != nil, err2)
			}
		})
	}
}

// A stage 1 that starts also what is not approved is sealed to only by an owner who was told.
func TestUnapprovedIsSaidWhereItWouldStartAllTheSame(t *testing.T) {
	c := sealedChain(t, tpm.V20, drtm.SKINIT, func(c *chained) {
		policed(c)
		c.told.Policy.LaunchUnapproved = true
		c.write()
	})
	c.bootChain(c.approval(), c.stage())
	c.InInitramfs = true
	c.wantProof()
	c.InInitramfs = false
	c.dom0 += " debug"
	c.write()
	a, err := c.PlanApproval(c.home, c.boot, "Stage 1", nil)
	c.must(err)
	if !errors.Is(a.Unapproved, launch.ErrNotApproved) {
		t.Errorf("the policy's answer: %v", a.Unapproved)
	}
	if diff := cmp.Diff([]string{"dom0's kernel command line", "launch policy's answer"}, whats(a)); diff != "" {
		t.Errorf("changes (-want +got)\n%s", diff)
	}
	if left := a.LeftToOwner(); !slices.ContainsFunc(left, func(s string) bool { return strings.Contains(s, "without its policy's approval") }) {
		t.Errorf("left to the owner: %q", left)
	}
	if s, err := c.next("Stage 1"); !errors.Is(err, launch.ErrNotApproved) {
		t.Errorf("sealed without a word to %+v, %v", s, err)
	}
	if _, err := c.Approve(c.home, a); err != nil {
		t.Fatal(err)
	}
	refused := c.approval()
	refused.Approved = false
	c.bootChain(refused, c.stage())
	c.wantProof()
}

// A cut archive may hold another configuration behind the cut.
func TestStageOneThatCanNotBeReadToItsEnd(t *testing.T) {
	c := sealedChain(t, tpm.V20, drtm.SKINIT, func(*chained) {})
	image, err := os.ReadFile(c.boot + "/stage1.img")
	c.must(err)
	writeFile(t, c.boot+"/stage1.img", append(image, bytes.Repeat([]byte("?"), 8)...))
	if _, err := c.PlanApproval(c.home, c.boot, "Stage 1", nil); !errors.Is(err, config.ErrArchive) {
		t.Error(err)
	}
}

// What CPU and firmware say is taken from the good launch: this system may be told other things.
func TestFactsOfTheMachineAreKept(t *testing.T) {
	c := newChained(t, tpm.V20, drtm.TXT)
	c.describe(launch.Description{
		Kernel: launch.File{Path: "/boot/vmlinuz", Line: "quiet"}, Measure: launch.Measure{CPU: true, Files: []string{"/boot/xen.gz"}},
	})
	stage := &drtm.Stage{Kind: drtm.Linux, Image: []byte(c.kernel), Line: "quiet"}
	fact := func(kind drtm.FactKind, name string, content []byte) {
		stage.Facts = append(stage.Facts, drtm.Fact{Kind: kind, Name: name, Sum: func(a []tpm.Alg) ([]tpm.TaggedDigest, error) { return tpm.SumAll(a, content), nil }})
	}
	fact(drtm.FactFile, "/boot/xen.gz", packedXen(t, c.xen))
	fact(drtm.FactCPU, "", []byte("what stage 1 was told"))
	c.bootChain(nil, stage)
	c.setUp("")
	now, err := c.Boot()
	c.must(err)
	c.must(c.home.KeepLog(now.Log))
	c.must(c.home.LearnForms(now, c.boot))
	if a, err := c.PlanApproval(c.home, c.boot, "Stage 1", nil); err != nil || !a.Known || a.Assumed {
		t.Errorf("%+v, %v", a, err)
	}
	// Never measured before, they are taken from here, and that is said.
	c.bootAlone()
	c.sealNow("")
	now, err = c.Boot()
	c.must(err)
	c.must(c.home.KeepLog(now.Log))
	if a, err := c.PlanApproval(c.home, c.boot, "Stage 1", nil); err != nil || a.Known || !a.Assumed {
		t.Errorf("%+v, %v", a, err)
	}
}

// Xen's log says nothing of how this machine launches a Linux, with a stage 1 or without.
func TestALaunchOfLinuxIsNotComputedFromOneOfXen(t *testing.T) {
	x := newXen(t)
	x.root.Write("boot/grub/grub.cfg", "menuentry 'Linux' {\n slaunch skinit\n slaunch_module /loader.bin\n linux /vmlinuz-"+oldRelease+" quiet\n initrd /initrd.img-"+oldRelease+"\n}\n")
	if a, err := x.PlanApproval(x.home, x.root.Boot(), "default", nil); !errors.Is(err, aem.ErrNotPossible) || !errors.Is(err, drtm.ErrUnexplained) {
		t.Errorf("%+v, %v", a, err)
	}
}
