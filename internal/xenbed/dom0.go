package xenbed

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/internal/unpack"
)

// Helper is internal/xenguest's program, in dom0 and in guests.
const Helper = "/bin/xenguest"

// Dom0 returns the initramfs of a dom0 whose steps so far bring Xen's tools up. It has xl and
// the xenstore-* programs, swtpm, and what guests boot.
func Dom0() (*testbed.Image, error) {
	root, programs, err := FindTools()
	if err != nil {
		return nil, err
	}
	im := &testbed.Image{
		Load:  []string{"xen_privcmd", "xen_evtchn", "xen_gntdev", "xenfs"},
		Steps: []testbed.Step{testbed.Run(Helper, "dom0")},
	}
	if err := im.Program(Helper, "./internal/xenguest"); err != nil {
		return nil, err
	}
	// The toolstack looks for its own helpers where it is installed.
	home := "usr/lib/" + filepath.Base(filepath.Dir(programs)) + "/bin/"
	for _, name := range []string{"xl", "xenstored", "xenconsoled", "xen-init-dom0", "libxl-save-helper"} {
		if err := AddProgram(im, home+name, filepath.Join(programs, name)); err != nil {
			return nil, err
		}
		im.Symlink("bin/"+name, "/"+home+name)
	}
	if err := AddProgram(im, "bin/xenstore", filepath.Join(root, "usr", "bin", "xenstore")); err != nil {
		return nil, err
	}
	for _, name := range []string{"ls", "read", "write", "list", "rm", "watch"} {
		im.Symlink("bin/xenstore-"+name, "xenstore")
	}
	swtpm, err := exec.LookPath("swtpm")
	if err != nil {
		return nil, err
	}
	if err := AddProgram(im, "bin/swtpm", swtpm); err != nil {
		return nil, err
	}
	// Threads are cancelled with its help, and nothing names it.
	if err := addLibrary(im, "libgcc_s.so.1", libraryFolders(root)); err != nil {
		return nil, err
	}
	for _, dir := range []string{"etc/xen", "var/lock", "var/lib/xen", "var/lib/xenstored", "var/log/xen/console", "tmp", "root"} {
		im.Dir(dir, 0o755)
	}
	im.Symlink("var/run", "../run")
	im.File("etc/xen/xl.conf", 0o644, []byte("autoballoon=\"off\"\n"))
	im.File("etc/passwd", 0o644, []byte("root:x:0:0:root:/:/bin/sh\ntss:x:100:100::/:/bin/sh\n"))
	im.File("etc/group", 0o644, []byte("root:x:0:\ntss:x:100:\n"))
	kernel, err := guestKernel()
	if err != nil {
		return nil, err
	}
	im.File("guests/vmlinux.gz", 0o644, kernel)
	return im, nil
}

// guestKernel is Debian's kernel without its own decompressor, packed as the toolstack unpacks
// it fast: under emulation that is half of the time that a guest needs to start.
func guestKernel() ([]byte, error) {
	k, err := testbed.FindKernel()
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(k.Image)
	if err != nil {
		return nil, err
	}
	// The fields of the setup header (Linux' Documentation/arch/x86/boot.rst).
	if len(b) < 0x250 {
		return nil, errors.New("the guests' kernel is no bzImage")
	}
	start := (int64(b[0x1f1])+1)*512 + int64(binary.LittleEndian.Uint32(b[0x248:]))
	end := start + int64(binary.LittleEndian.Uint32(b[0x24c:]))
	if end > int64(len(b)) {
		return nil, errors.New("the guests' kernel is no bzImage")
	}
	elf, _, _, err := unpack.Decompress(b[start:end])
	if err != nil {
		return nil, fmt.Errorf("unpack the guests' kernel: %w", err)
	}
	return pack(elf)
}

// pack compresses fast rather than well: it is unpacked once, a moment later.
func pack(b []byte) ([]byte, error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	_, err = z.Write(b)
	err = errors.Join(err, z.Close())
	return out.Bytes(), err
}

// GuestConfig is the configuration of a guest, for xl create.
func GuestConfig(name string) string { return "/etc/xen/" + name + ".cfg" }

// NewGuest returns the initramfs of a guest, with the helper in it.
func NewGuest(steps ...testbed.Step) (*testbed.Image, error) {
	im := &testbed.Image{Steps: steps}
	return im, im.Program(Helper, "./internal/xenguest")
}

// AddGuest adds a guest to dom0: its initramfs, and a configuration to which lines are
// added. They say its type; a PVH guest runs under emulation only with tsc_mode="native".
func AddGuest(dom0 *testbed.Image, name, lines string, guest *testbed.Image) error {
	k, err := testbed.FindKernel()
	if err != nil {
		return err
	}
	initrd, err := guest.Build(k)
	if err != nil {
		return err
	}
	packed, err := pack(initrd)
	if err != nil {
		return err
	}
	dom0.File("guests/"+name+".img", 0o644, packed)
	dom0.File(GuestConfig(name), 0o644, fmt.Appendf(nil, `name="%s"
memory=128
vcpus=1
kernel="/guests/vmlinux.gz"
ramdisk="/guests/%s.img"
extra="console=hvc0 panic=-1 quiet"
on_poweroff="destroy"
on_reboot="restart"
on_crash="destroy"
vif=[]
%s
`, name, name, lines))
	return nil
}

// Expect is the step that waits until a guest has printed what a pattern matches since the last Expect for it.
func Expect(name, pattern string) testbed.Step {
	return testbed.Run(Helper, "expect", name, pattern)
}

// Consoles is the step that prints all that all guests have printed.
func Consoles() testbed.Step { return testbed.Run(Helper, "consoles") }

// Config writes what QEMU boots into a folder and returns the machine. A TPM and disks may be added.
//
// Three settings go around faults of QEMU's emulation: no SMAP, because it faults where a
// paravirtualised kernel returns to a program; an FPU that is not switched lazily, because
// its registers leak between domains; and Xen keeps away from what it need not touch.
func Config(dir string, dom0 *testbed.Image) (testbed.Config, error) {
	packed, err := testbed.FindXen()
	if err != nil {
		return testbed.Config{}, err
	}
	xen, err := gunzip(packed)
	if err != nil {
		return testbed.Config{}, err
	}
	k, err := testbed.FindKernel()
	if err != nil {
		return testbed.Config{}, err
	}
	initrd, err := dom0.Build(k)
	if err != nil {
		return testbed.Config{}, err
	}
	kernel, archive := filepath.Join(dir, "xen"), filepath.Join(dir, "dom0")
	if err := errors.Join(os.WriteFile(kernel, xen, 0o600), os.WriteFile(archive, initrd, 0o600)); err != nil {
		return testbed.Config{}, err
	}
	return testbed.Config{
		Memory: 1280, Kernel: kernel,
		Append: "console=com1 com1=115200,8n1 loglvl=none guest_loglvl=none dom0_mem=768M,max:768M spec-ctrl=eager-fpu serial_tx_buffer=256k bootscrub=off",
		Initrd: k.Image + " console=hvc0 panic=-1 quiet loglevel=1," + archive,
		Extra:  []string{"-cpu", "max,-smap"},
	}, nil
}

func gunzip(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", path, err)
	}
	return io.ReadAll(z)
}
