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

	"github.com/antievilmaid/aem/internal/guestinit/script"
	"github.com/antievilmaid/aem/internal/testbed"
)

// libvirtDriver is how libvirtd has to do with QEMU.
const libvirtDriver = "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so"

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

func (l *libvirt) uri() string {
	return "qemu:///system?socket=" + filepath.Join(l.dir, "libvirt-sock")
}

// virsh runs one of its commands, and returns what it prints and whether it did it.
func (l *libvirt) virsh(args ...string) (string, error) {
	out, err := exec.Command("virsh", append([]string{"-q", "-c", l.uri()}, args...)...).CombinedOutput()
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
	for _, change := range [][2]string{
		// Linux, with no_timer_check, does not panic where a busy machine's emulated timer is late.
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
