//go:build debian

package daily_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/debian"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

const sentence = "the lighthouse keeper sleeps on Tuesdays"

// kind is what a laptop is made of.
type kind struct {
	variant  debian.Variant
	firmware debian.Firmware
	tpm      tpm.Version
	platform drtm.Platform
}

// plain is the laptop that most days are lived with.
var plain = kind{variant: debian.Variant{Initramfs: debian.InitramfsTools}, tpm: tpm.V20, platform: drtm.SKINIT}

// laptop is a Debian whose root is encrypted, and its TPM.
type laptop struct {
	t    *testing.T
	ctx  context.Context
	disk *debian.Disk
	c    debian.Config
	m    *debian.Machine
}

// A day ends after so much time, whatever hangs. Without KVM a boot takes a minute, and
// several where the machine has other work.
const day = time.Hour

// newLaptop is a laptop on which nothing was installed yet.
func newLaptop(t *testing.T, k kind) *laptop {
	t.Helper()
	testbed.Need(t, "qemu-system-x86_64", "swtpm", "cryptsetup", "mmdebstrap", "dpkg-deb")
	ctx, cancel := context.WithTimeout(t.Context(), day)
	t.Cleanup(cancel)
	image, err := debian.Build(ctx, k.variant)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := image.Overlay(folder(t))
	if err != nil {
		t.Fatal(err)
	}
	l := &laptop{t: t, ctx: ctx, disk: disk, c: debian.Config{
		Firmware: k.firmware, TPM: k.tpm, TPMDir: folder(t), Launch: &debian.Launch{Platform: k.platform},
	}}
	if k.tpm == tpm.V12 {
		l.must(testbed.MakeEK12(l.c.TPMDir))
	}
	return l
}

// folder is a folder for as long as all tests run: a machine may be the base of others.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(workshop, "")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var workshop string

func TestMain(m *testing.M) {
	var err error
	if workshop, err = os.MkdirTemp("", "aem-daily-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(workshop)
	os.Exit(code)
}

// bases are the laptops that were set up once, to branch others off.
var bases struct {
	sync.Mutex
	of map[kind]*laptop
}

// installed is a laptop that was set up, has proved itself never yet, and is off.
func installed(t *testing.T, k kind) *laptop {
	t.Helper()
	bases.Lock()
	defer bases.Unlock()
	base := bases.of[k]
	if base == nil {
		base = newLaptop(t, k)
		base.on()
		base.login()
		base.install()
		base.off()
		if bases.of == nil {
			bases.of = map[kind]*laptop{}
		}
		bases.of[k] = base
	}
	return base.branch(t)
}

// branch is another laptop in the state that this one, which is off, is in.
func (l *laptop) branch(t *testing.T) *laptop {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), day)
	t.Cleanup(cancel)
	b := &laptop{t: t, ctx: ctx, c: l.c}
	var err error
	b.disk, err = l.disk.Overlay(folder(t))
	b.must(err)
	b.c.TPMDir = folder(t)
	b.must(os.CopyFS(b.c.TPMDir, os.DirFS(l.c.TPMDir)))
	return b
}

func (l *laptop) must(err error) {
	l.t.Helper()
	if err != nil {
		if l.m != nil {
			l.t.Logf("the serial line: %s", tail(l.m.Transcript()))
		}
		l.t.Fatal(err)
	}
}

func tail(b []byte) []byte {
	const most = 4000
	return b[max(0, len(b)-most):]
}

// on switches the machine on.
func (l *laptop) on() {
	l.t.Helper()
	var err error
	l.m, err = l.disk.Boot(l.c)
	l.must(err)
	l.t.Cleanup(l.m.Kill)
}

// off shuts it down.
func (l *laptop) off() {
	l.t.Helper()
	l.must(l.m.PowerOff(l.ctx))
	l.m.Kill()
}

// expect waits for a text on the serial line.
func (l *laptop) expect(pattern string) {
	l.t.Helper()
	_, err := l.m.Expect(l.ctx, pattern)
	l.must(err)
}

func (l *laptop) typed(text string) {
	l.t.Helper()
	l.must(l.m.Type(text + "\r"))
}

// login unlocks the disk and logs in.
func (l *laptop) login() {
	l.t.Helper()
	l.must(l.m.Unlock(l.ctx, debian.Passphrase))
	l.must(l.m.Login(l.ctx, "root", debian.RootPassword))
}

// run runs a command in the machine, which must succeed.
func (l *laptop) run(command string) string {
	l.t.Helper()
	out, exit, err := l.m.Run(l.ctx, command)
	l.must(err)
	if exit != 0 {
		l.t.Fatalf("%s: exit %d: %s", command, exit, out)
	}
	return out
}

// says demands that a command succeeds and prints something.
func (l *laptop) says(want, command string) {
	l.t.Helper()
	if out := l.run(command); !strings.Contains(out, want) {
		l.t.Errorf("%s does not say %q but: %s", command, want, out)
	}
}

// thePackage builds the Debian package once.
var thePackage = sync.OnceValues(func() ([]byte, error) {
	cmd := exec.Command("make", "--no-print-directory", "-C", filepath.Join("..", ".."), "deb")
	said, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("make deb: %w: %s", err, said)
	}
	_, name, ok := strings.Cut(strings.TrimSpace(string(said)), "deb: ")
	if !ok {
		return nil, fmt.Errorf("make deb said %s", said)
	}
	return os.ReadFile(filepath.Join("..", "..", name))
})

func (l *laptop) installPackage() {
	l.t.Helper()
	deb, err := thePackage()
	l.must(err)
	l.must(l.m.CopyIn(l.ctx, "/root/aem.deb", 0o644, deb))
	l.run("dpkg -i /root/aem.deb")
}

// install does what the manual says, from the package on.
func (l *laptop) install() {
	l.t.Helper()
	l.installPackage()
	if l.c.TPM == tpm.V20 {
		l.run("tpm2_getcap handles-nv-index >/root/nv-before")
	}
	l.run("aem-setup init --medium /boot")
	l.run(fmt.Sprintf("echo %q | aem-setup secret set text", sentence))
	l.run("aem-setup seal --label Monday")
	l.run("aem-setup boot install --plain")
	if out := l.run("aem-setup approve --yes"); strings.Contains(out, "Assumed") {
		l.t.Errorf("the approval assumes: %s", out)
	}
}

// proof demands the proof, confirms it, and goes on to the login.
func (l *laptop) proof() {
	l.t.Helper()
	if got, err := l.m.Expect(l.ctx, sentence+"|DID NOT PROVE ITSELF"); err != nil || got[0] != sentence {
		l.m.Expect(l.ctx, "boot on without proof") // the cause stands before it
		l.must(cmp.Or(err, errors.New("the machine refused")))
	}
	l.expect("this is not mine")
	l.typed("")
	l.login()
}

// refusal demands a refusal that names something, and boots on by the typed word.
func (l *laptop) refusal(what string) {
	l.t.Helper()
	l.expect("DID NOT PROVE ITSELF")
	l.expect(what)
	l.expect("boot on without proof")
	l.typed("UNPROVEN")
	l.login()
}

// noteInitramfs changes what the next initramfs is made of, as a setting of the owner does.
const noteInitramfs = "echo dummy >>/etc/initramfs-tools/modules && update-initramfs -u"
