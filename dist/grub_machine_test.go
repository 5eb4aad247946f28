package dist_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/dist"
	"github.com/antievilmaid/aem/internal/bootentry"
	"github.com/antievilmaid/aem/internal/testbed"
)

const (
	uuid    = "1f0c9a53-1111-4111-8111-111111111111"
	espUUID = "ABCD-1234"
	intel   = "vendor_id\t: GenuineIntel\nflags\t\t: fpu vmx smx sse\n\n"
	amd     = "vendor_id\t: AuthenticAMD\nflags\t\t: fpu svm skinit\n\n"
)

// machine is a folder that looks like a Debian machine, with GRUB's own programs
// in front of it. GRUB's helper that asks the disks answers what it is told here.
type machine struct {
	t    *testing.T
	root string
	env  []string
}

func newMachine(t *testing.T, cpu string, efi bool) *machine {
	t.Helper()
	testbed.Need(t, "grub-mkconfig", "grub-script-check")
	m := &machine{t: t, root: t.TempDir()}
	m.file("proc/cpuinfo", cpu)
	m.file("sys/firmware/acpi", "")
	platform := "i386-pc"
	if efi {
		m.file("sys/firmware/efi/systab", "")
		m.file("boot/efi/EFI/debian/grubx64.efi", "")
		platform = "x86_64-efi"
	}
	m.file("boot/grub/"+platform+"/slaunch.mod", "")
	m.file("dev/disk/by-uuid/"+uuid, "")
	conf, err := dist.Files.ReadFile("grub/grub.conf")
	m.must(err)
	m.file("etc/aem/grub.conf", string(conf))
	m.program("probe", `case $* in
*target=device*/efi) echo /dev/esp ;;
*target=device*) echo /dev/sda3 ;;
*esp*target=fs_uuid*) echo `+espUUID+` ;;
*target=fs_uuid*) echo `+uuid+` ;;
*target=fs) echo ext2 ;;
*target=partmap*) echo gpt ;;
*target=hints_string*) echo "--hint='hd0,gpt3'" ;;
*target=compatibility_hint*) echo hd0,gpt3 ;;
esac`)
	// /boot and the ESP are file systems of their own.
	m.program("relpath", `path=${1#`+m.root+`}; path=${path#/boot}; path=${path#/efi}; printf '%s\n' "$path"`)
	m.program("grub-file", "[ $1 = --is-x86-multiboot2 ]")
	m.env = append(os.Environ(), "AEM_ROOT="+m.root, "grub_probe="+m.root+"/probe", "grub_mkrelpath="+m.root+"/relpath", "grub_file="+m.root+"/grub-file",
		"EUID=0", "PATH="+os.Getenv("PATH")+":/usr/sbin")
	return m
}

// typical gives the machine two kernels, Xen, and loaders for both vendors.
func (m *machine) typical() *machine {
	for _, v := range []string{"6.1.0-9-amd64", "6.1.0-37-amd64"} {
		m.file("boot/vmlinuz-"+v, "kernel "+v)
		m.file("boot/initrd.img-"+v, "initramfs "+v)
		m.file("boot/config-"+v, "CONFIG_SECURE_LAUNCH=y\nCONFIG_XEN_DOM0=y\n")
	}
	m.file("boot/xen-4.17-amd64.gz", "xen")
	m.file("boot/3rd_gen_i5_i7_SINIT_67.BIN", "an old SINIT module")
	m.file("boot/6th_gen_i5_i7_sinit_79.bin", "a SINIT module")
	m.file("boot/skl.bin", "a loader")
	m.file("boot/intel-ucode.img", "microcode")
	m.file("etc/default/grub", "GRUB_DEFAULT=0\nGRUB_TIMEOUT=1\nGRUB_DISTRIBUTOR=Debian\nGRUB_CMDLINE_LINUX_DEFAULT=quiet\nGRUB_CMDLINE_LINUX='cryptdevice=UUID=1:root net.ifnames=0'\nGRUB_CMDLINE_XEN='dom0_mem=2G,max:2G'\n")
	return m
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) file(name, content string) {
	m.t.Helper()
	path := filepath.Join(m.root, name)
	m.must(os.MkdirAll(filepath.Dir(path), 0o755))
	m.must(os.WriteFile(path, []byte(content), 0o644))
}

func (m *machine) program(name, body string) {
	m.t.Helper()
	m.file(name, "#!/bin/sh\n"+body+"\n")
	m.must(os.Chmod(filepath.Join(m.root, name), 0o755))
}

func (m *machine) remove(name string) {
	m.t.Helper()
	m.must(os.Remove(filepath.Join(m.root, name)))
}

// run runs a program of the machine.
func (m *machine) run(program string, args ...string) (stdout, stderr string) {
	m.t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = m.env
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		m.t.Fatalf("%s: %v\n%s", program, err, errs.String())
	}
	return out.String(), errs.String()
}

// script runs our script as aem-setup does, beside grub-mkconfig.
func (m *machine) script() (entries, why string) {
	m.t.Helper()
	return m.run("sh", "grub/aem-launch")
}

// mkconfig runs GRUB's own grub-mkconfig with all scripts of the distribution, and
// ours if it is installed. Of them, only the paths of what they look at are changed.
func (m *machine) mkconfig(installed bool) string {
	m.t.Helper()
	m.must(os.RemoveAll(filepath.Join(m.root, "etc/grub.d")))
	scripts, err := filepath.Glob("/etc/grub.d/*")
	m.must(err)
	if len(scripts) < 5 {
		m.t.Fatalf("the distribution's own scripts are not there, but %v", scripts)
	}
	for _, path := range scripts {
		b, err := os.ReadFile(path)
		m.must(err)
		text := strings.ReplaceAll(string(b), "/boot/", m.root+"/boot/")
		text = strings.ReplaceAll(text, "/dev/disk/", m.root+"/dev/disk/")
		text = strings.ReplaceAll(text, "/sys/firmware", m.root+"/sys/firmware")
		m.file("etc/grub.d/"+filepath.Base(path), text)
		m.must(os.Chmod(filepath.Join(m.root, "etc/grub.d", filepath.Base(path)), 0o755))
	}
	if installed {
		b, err := dist.Files.ReadFile("grub/aem-launch")
		m.must(err)
		m.file("etc/grub.d/90_aem_launch", string(b))
		m.must(os.Chmod(filepath.Join(m.root, "etc/grub.d/90_aem_launch"), 0o755))
	}
	path, err := exec.LookPath("grub-mkconfig")
	m.must(err)
	b, err := os.ReadFile(path)
	m.must(err)
	text := string(b)
	for _, r := range [][2]string{
		{`sysconfdir="/etc"`, `sysconfdir="` + m.root + `/etc"`},
		{`grub_probe="${sbindir}/grub-probe"`, `grub_probe="` + m.root + `/probe"`},
		{`grub_file="${bindir}/grub-file"`, `grub_file="` + m.root + `/grub-file"`},
	} {
		if !strings.Contains(text, r[0]) {
			m.t.Fatalf("grub-mkconfig has no %s", r[0])
		}
		text = strings.ReplaceAll(text, r[0], r[1])
	}
	m.program("grub-mkconfig", strings.TrimPrefix(text, "#! /bin/sh\n"))
	out, _ := m.run(filepath.Join(m.root, "grub-mkconfig"))
	return out
}

// menu evaluates a configuration as GRUB would on this machine.
func (m *machine) menu(config string) *bootentry.Menu {
	m.t.Helper()
	m.file("boot/grub/grub.cfg", config)
	m.check(config)
	o := bootentry.Options{Platform: "pc", CPU: "i386", Filesystems: []bootentry.Filesystem{
		{Dir: filepath.Join(m.root, "boot"), UUID: uuid},
	}}
	if _, err := os.Stat(filepath.Join(m.root, "sys/firmware/efi")); err == nil {
		o.Platform, o.CPU = "efi", "x86_64"
		o.Filesystems = append(o.Filesystems, bootentry.Filesystem{Dir: filepath.Join(m.root, "boot/efi"), UUID: espUUID})
	}
	menu, err := bootentry.Read(o)
	m.must(err)
	return menu
}

// check has GRUB's own parser read a configuration.
func (m *machine) check(config string) {
	m.t.Helper()
	m.file("check.cfg", config)
	if out, err := exec.Command("grub-script-check", filepath.Join(m.root, "check.cfg")).CombinedOutput(); err != nil {
		m.t.Errorf("GRUB can't read it: %s\n%s", out, config)
	}
}

// find finds an entry that can be evaluated.
func (m *machine) find(menu *bootentry.Menu, name string) *bootentry.Entry {
	m.t.Helper()
	e, err := menu.Find(name)
	m.must(err)
	if e.Err != nil {
		m.t.Fatalf("%s: %v", name, e.Err)
	}
	return e
}
