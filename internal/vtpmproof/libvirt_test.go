package vtpmproof

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/guestinit/script"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/internal/vtpmbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/device"
	"github.com/antievilmaid/aem/tpm2"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/measure"
)

// A guest of libvirt's, with the sample that its owner is given, has the TPM that vtpmctl made for it. Each
// start and each reset gives it fresh PCRs and the same TPM; libvirt cuts its power, and its TPM is in order. Nobody
// else is given that TPM, and libvirt does not save it, with the reason in words.
func TestLibvirt(t *testing.T) {
	testbed.Need(t, "virsh", "qemu-system-x86_64", "swtpm", "ldd", "tpm2")
	s := vtpmbed.New(t, tpm.V20, program(t, "vtpmd"))
	want := measure.Launch{Guest: vtpm.Guest{UUID: sampled}, Start: measure.Firmware, Host: launched(t, s)}
	s.Do(aem.ExitOK, "The store", "init")
	d := s.Start()
	sockets := filepath.Join(s.Dir, "run")
	create := program(t, "vtpmctl")("create", "--socket", filepath.Join(sockets, "admin.sock"), "--uuid", sampled.String(), "--qemu-user", libvirtUser)
	if said, err := create.CombinedOutput(); err != nil {
		t.Fatalf("vtpmctl: %v: %s", err, said)
	}
	l := newLibvirt(t, sockets)
	b := bed{tool(t, "unseal", "-c", "0x81000001", "-p", "pcr:sha256:17,18"), tool(t, "getcap", "properties-variable"), tool(t, "pcrread"), run(t, "cat", "/sys/power/mem_sleep")}

	g := l.define("desktop", b.image(t))
	said := b.life(g, g.start)
	begin := parsePCRs(t, said.succeeded(t, b.pcrs))
	predicted, err := want.Predict(begin.Algs())
	must(t, err)
	for _, bank := range begin {
		for p := tpm.PCR(17); p <= 22; p++ {
			if diff := cmp.Diff(predicted.Value(bank.Alg, p), bank.Values[p]); diff != "" {
				t.Errorf("PCR %d of %s: %s", p, bank.Alg, diff)
			}
		}
	}
	if got := said.succeeded(t, b.sleep); got != "[s2idle]" {
		t.Errorf("with the sample's <pm> the guest can suspend by %s", got)
	}
	if got := said.of(b.unseal); got.code == 0 {
		t.Errorf("a fresh vTPM unsealed %s", got.text)
	}
	for _, s := range b.use(t) {
		said.succeeded(t, s)
	}

	if got := l.define("thief", b.image(t)).refused(); !strings.Contains(got, "Failed to start domain 'thief'") || !strings.Contains(got, "tpm-emulator") {
		t.Errorf("of a second guest libvirt says: %s", got)
	}
	if got := d.Said(); !strings.Contains(got, "stop that QEMU first") {
		t.Errorf("of a second guest vtpmd says: %s", got)
	}
	for _, args := range [][]string{{"save", "desktop", g.path("saved")}, {"managedsave", "desktop"}, {"snapshot-create-as", "desktop", "--memspec", "file=" + g.path("memory")}} {
		if got := l.refuses(args...); !strings.Contains(got, "TPM emulator does not support migration") {
			t.Errorf("virsh %s says: %s", args[0], got)
		}
	}

	for _, again := range []struct {
		how   string
		start func()
	}{
		{"a reset", func() { l.do("reset", "desktop") }},
		{"a power cut", func() { l.do("destroy", "desktop"); g.start() }},
	} {
		said = b.life(g, again.start)
		if diff := cmp.Diff(begin, parsePCRs(t, said.succeeded(t, b.pcrs))); diff != "" {
			t.Errorf("after %s the PCRs are others: %s", again.how, diff)
		}
		if got := said.succeeded(t, b.unseal); got != secret {
			t.Errorf("after %s unsealed was %q", again.how, got)
		}
		if got := said.succeeded(t, b.counter); !strings.Contains(got, "TPM2_PT_LOCKOUT_COUNTER: 0x0\n") {
			t.Errorf("after %s the TPM counts a wrong password: %s", again.how, got)
		}
	}
	l.do("destroy", "desktop")
	d.Stop()
	if got := g.refused(); !strings.Contains(got, "Failed to connect to '/run/vtpmd/qemu/"+sampled.String()) {
		t.Errorf("without vtpmd libvirt says: %s", got)
	}
}

// sampled is the vTPM in the sample, and libvirtUser who runs QEMU for Debian's libvirt.
var sampled = vtpm.UUID{0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x33, 0x33, 0x44, 0x44, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88}

const libvirtUser = "64055"

// program is one of this module's, as it is shipped.
func program(t *testing.T, name string) func(args ...string) *exec.Cmd {
	t.Helper()
	b, err := testbed.Program("./cmd/" + name)
	must(t, err)
	path := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(path, b, 0o755))
	return func(args ...string) *exec.Cmd { return exec.Command(path, args...) }
}

// launched is what a machine's guests inherit.
func launched(t *testing.T, s *vtpmbed.Server) measure.Host {
	t.Helper()
	d, err := device.Open(device.Options{Spec: s.TPM()})
	must(t, err)
	defer d.Close()
	banks, err := tpm2.New(d).ReadPCRs(launchPCRs)
	must(t, err)
	return measure.Host{Grade: measure.Launched, PCRs: banks}
}

// bed is what a guest does at each of its starts: it looks first, and changes then what it can.
type bed struct{ unseal, counter, pcrs, sleep testbed.Step }

// use makes the guest use its TPM. That takes a password, so that a TPM that is not shut down in order counts it as
// a wrong one. The last step's object is there already at the second start.
func (b bed) use(t *testing.T) []testbed.Step {
	t.Helper()
	ones := strings.Repeat("5a", 32)
	return []testbed.Step{
		tool(t, "createprimary", "-Q", "-C", "o", "-G", "ecc", "-p", "password", "-c", "/tmp/primary"),
		tool(t, "createpolicy", "-Q", "--policy-pcr", "-l", "sha256:17,18", "-L", "/tmp/policy"),
		tool(t, "create", "-Q", "-C", "/tmp/primary", "-P", "password", "-L", "/tmp/policy", "-i", "/secret", "-u", "/tmp/public", "-r", "/tmp/private"),
		tool(t, "load", "-Q", "-C", "/tmp/primary", "-P", "password", "-u", "/tmp/public", "-r", "/tmp/private", "-c", "/tmp/sealed"),
		tool(t, "pcrextend", "4:sha256="+ones, "16:sha256="+ones),
		tool(t, "evictcontrol", "-Q", "-C", "o", "-c", "/tmp/sealed", "0x81000001"),
	}
}

func (b bed) steps(t *testing.T) []testbed.Step {
	t.Helper()
	return append([]testbed.Step{b.unseal, b.counter, b.pcrs, b.sleep}, b.use(t)...)
}

// image does the steps, and waits.
func (b bed) image(t *testing.T) *testbed.Image {
	t.Helper()
	im := &testbed.Image{Steps: append(b.steps(t), run(t, "sleep", "infinity"))}
	must(t, im.Installed("tpm2", "cat", "sleep", "/lib/x86_64-linux-gnu/libtss2-tcti-device.so.0"))
	im.File("secret", 0o600, []byte(secret))
	im.Dir("tmp", 0o700)
	return im
}

// life is what the guest says from a start to when it waits.
func (b bed) life(g *domain, start func()) answers {
	g.t.Helper()
	start()
	return parse(g.t, g.until(script.Started+` \S+ infinity$`), b.steps(g.t))
}

// libvirt is Debian's libvirtd with folders, processes and a user libvirt-qemu of its own, as root has it on a host.
type libvirt struct {
	t   *testing.T
	dir string // its socket, and what the guests have
}

// setUp runs as the first process of a new process namespace, in a new mount namespace: the end of its input, and so
// the end of the test's process, ends it and with it libvirtd and every guest. The shell waits for cat, and reaps QEMUs.
const setUp = `set -e
mount -t proc proc /proc
for d in /run /var/lib /var/cache /var/log /etc/libvirt; do mount -t tmpfs none $d; done
for f in passwd group; do { grep -v ^libvirt-qemu: /etc/$f || :; } >$DIR/$f; done
echo libvirt-qemu:x:$QEMU:$QEMU::/var/lib/libvirt:/usr/sbin/nologin >>$DIR/passwd
echo libvirt-qemu:x:$QEMU: >>$DIR/group
for f in passwd group; do mount --bind $DIR/$f /etc/$f; done
mkdir /run/lock /run/vtpmd /var/log/libvirt
mount --bind $VTPMD /run/vtpmd
cat >/etc/libvirt/libvirtd.conf <<.
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
unix_sock_dir = "$DIR"
.
cat >/etc/libvirt/qemu.conf <<.
security_driver = "none" # beside the users and modes of files, which stay
stdio_handler = "file"
cgroup_controllers = [ ]
.
libvirtd --config /etc/libvirt/libvirtd.conf --daemon
echo ready
cat
:`

// newLibvirt starts libvirtd on a host whose vtpmd has its sockets in a folder, which is /run/vtpmd to it.
func newLibvirt(t *testing.T, vtpmd string) *libvirt {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("libvirt gives QEMU a user of its own as root alone")
	}
	testbed.Need(t, "libvirtd", "virsh", "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so")
	dir, err := os.MkdirTemp("", "aem-libvirt-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755)) // QEMU has another user
	l := &libvirt{t: t, dir: dir}

	cmd := exec.Command("sh", "-c", setUp)
	cmd.Env = append(os.Environ(), "DIR="+dir, "VTPMD="+vtpmd, "QEMU="+libvirtUser)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS}
	var said bytes.Buffer
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		in.Close()
		cmd.Wait()
		t.Fatalf("libvirtd did not start: %v: %s", err, said.Bytes())
	}
	return l
}

// virsh runs one of its commands, and returns what it prints and whether it did it.
func (l *libvirt) virsh(args ...string) (string, error) {
	out, err := exec.Command("virsh", append([]string{"-q", "-c", "qemu:///system?socket=" + filepath.Join(l.dir, "libvirt-sock")}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// do is virsh where it must succeed.
func (l *libvirt) do(args ...string) string {
	l.t.Helper()
	out, err := l.virsh(args...)
	if err != nil {
		l.t.Fatalf("virsh %q: %v: %s", args, err, out)
	}
	return out
}

// refuses is virsh where it must fail, and returns what it says.
func (l *libvirt) refuses(args ...string) string {
	l.t.Helper()
	out, err := l.virsh(args...)
	if err == nil {
		l.t.Errorf("virsh %q succeeded: %s", args, out)
	}
	return out
}

// define makes a domain of the sample that users are given.
func (l *libvirt) define(name string, im *testbed.Image) *domain {
	l.t.Helper()
	k, err := testbed.FindKernel()
	must(l.t, err)
	d := &domain{libvirt: l, name: name}
	// libvirt gives the files to QEMU's user, so these are copies.
	kernel, err := os.ReadFile(k.Image)
	must(l.t, err)
	initrd, err := im.Build(k)
	must(l.t, err)
	must(l.t, os.WriteFile(d.path("kernel"), kernel, 0o600))
	must(l.t, os.WriteFile(d.path("initrd"), initrd, 0o600))
	d.serial, err = net.Listen("unix", d.path("serial"))
	must(l.t, err)
	l.t.Cleanup(func() { d.serial.Close() })
	root, err := testbed.ModuleRoot()
	must(l.t, err)
	sample, err := os.ReadFile(filepath.Join(root, "dist", "vtpm", "libvirt.xml"))
	must(l.t, err)
	text := string(sample)
	// On a busy machine Linux finds the emulated timer too slow, and panics.
	for _, change := range [][2]string{
		{"<domain type='kvm'>", "<domain type='qemu'><name>" + name + "</name><memory unit='MiB'>768</memory>" +
			"<os><type machine='q35'>hvm</type><kernel>" + d.path("kernel") + "</kernel><initrd>" + d.path("initrd") + "</initrd>" +
			"<cmdline>console=ttyS0 quiet no_timer_check</cmdline></os><features><acpi/></features>"},
		{"<devices>", "<devices><serial type='unix'><source mode='connect' path='" + d.path("serial") + "'/></serial>"},
	} {
		if strings.Count(text, change[0]) != 1 {
			l.t.Fatalf("the sample does not have %s", change[0])
		}
		text = strings.Replace(text, change[0], change[1], 1)
	}
	must(l.t, os.WriteFile(d.path("xml"), []byte(text), 0o600))
	l.do("define", "--validate", d.path("xml"))
	return d
}

// domain is a guest of libvirt's.
type domain struct {
	*libvirt
	name   string
	serial net.Listener
	line   net.Conn
}

func (d *domain) path(name string) string { return filepath.Join(d.dir, d.name+"."+name) }

// start has libvirt start it.
func (d *domain) start() {
	d.t.Helper()
	d.do("start", d.name)
	var err error
	d.line, err = d.serial.Accept()
	must(d.t, err)
	d.t.Cleanup(func() { d.line.Close() })
}

// refused has libvirt start it, which must fail, and returns what it says.
func (d *domain) refused() string {
	d.t.Helper()
	return d.refuses("start", d.name)
}

// until reads what the guest says until a line is as the pattern says.
func (d *domain) until(pattern string) string {
	d.t.Helper()
	d.line.SetReadDeadline(time.Now().Add(5 * time.Minute))
	stop := regexp.MustCompile("(?m)" + pattern + "|Kernel panic|^" + script.Broken)
	var said []byte
	b := make([]byte, 4096)
	for {
		n, err := d.line.Read(b)
		said = append(said, b[:n]...)
		text := strings.ReplaceAll(string(said), "\r", "")
		switch found := stop.FindString(text); {
		case found == "" && err == nil:
		case found == "" || !regexp.MustCompile("(?m)"+pattern).MatchString(text):
			d.t.Fatalf("the guest ended (%v): %s", err, text)
		default:
			return text
		}
	}
}
