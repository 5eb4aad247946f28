package testbed

import (
	"crypto/md5"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// DebianRoot is a folder with a small Debian in it, as far as a boot's approval looks
// at one: kernels and initramfs images in /boot, GRUB's menu, and what dpkg records.
type DebianRoot struct {
	Dir string
	// Arguments are the words of the kernel's command line.
	Arguments string
	// Loader is the Secure Kernel Loader or SINIT module that GRUB gives to a launch.
	Loader []byte

	t        testing.TB
	packages []string          // in the order of their installation
	status   map[string]string // their paragraphs
	releases []string          // of the kernels, the newest first
	versions map[string]string // of the kernels' packages
}

// NewDebianRoot makes one without a kernel, in which initramfs-tools is installed.
func NewDebianRoot(t testing.TB, loader []byte) *DebianRoot {
	t.Helper()
	d := &DebianRoot{Dir: t.TempDir(), Arguments: "root=/dev/sda quiet", Loader: loader, t: t, status: map[string]string{}, versions: map[string]string{}}
	d.record("initramfs-tools", "0.142", nil)
	d.Write("var/lib/dpkg/info/initramfs-tools.triggers", "interest-await update-initramfs\n")
	d.Write("var/lib/dpkg/triggers/update-initramfs", "initramfs-tools\n")
	return d
}

// Boot is the folder that GRUB reads.
func (d *DebianRoot) Boot() string { return filepath.Join(d.Dir, "boot") }

// Kernel is the path of a kernel.
func (d *DebianRoot) Kernel(release string) string {
	return filepath.Join(d.Boot(), "vmlinuz-"+release)
}

// Initrd is the path of a kernel's initramfs.
func (d *DebianRoot) Initrd(release string) string {
	return filepath.Join(d.Boot(), "initrd.img-"+release)
}

// Write writes a file below the root.
func (d *DebianRoot) Write(name, content string) {
	d.t.Helper()
	path := filepath.Join(d.Dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		d.t.Fatal(err)
	}
}

// record writes what dpkg has of an installed package, with the checksums of its files.
func (d *DebianRoot) record(name, version string, files map[string][]byte) {
	d.t.Helper()
	if d.status[name] == "" {
		d.packages = append(d.packages, name)
	}
	d.status[name] = fmt.Sprintf("Package: %s\nStatus: install ok installed\nArchitecture: amd64\nVersion: %s\nDescription: a package\n\n", name, version)
	var all, list, sums strings.Builder
	for _, p := range d.packages {
		all.WriteString(d.status[p])
	}
	for path, content := range files {
		fmt.Fprintf(&list, "/%s\n", path)
		fmt.Fprintf(&sums, "%x  %s\n", md5.Sum(content), path)
	}
	d.Write("var/lib/dpkg/status", all.String())
	d.Write("var/lib/dpkg/info/"+name+".list", list.String())
	d.Write("var/lib/dpkg/info/"+name+".md5sums", sums.String())
}

// InstallPackage writes a package's files, and what dpkg records of it.
func (d *DebianRoot) InstallPackage(name, version string, files map[string][]byte) {
	d.t.Helper()
	for path, content := range files {
		d.Write(path, string(content))
	}
	d.record(name, version, files)
}

// log adds a line to dpkg's log.
func (d *DebianRoot) log(at time.Time, format string, args ...any) {
	d.t.Helper()
	f, err := os.OpenFile(filepath.Join(d.Dir, "var/log/dpkg.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if os.IsNotExist(err) {
		d.Write("var/log/dpkg.log", "")
		d.log(at, format, args...)
		return
	}
	if err == nil {
		_, err = fmt.Fprintf(f, at.UTC().Format(time.DateTime)+" "+format+"\n", args...)
		f.Close()
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// InstallKernel does what apt does to a kernel: it is new, or another version of one
// that is there. Its package's script has the initramfs made, and then GRUB's menu.
// Started at a time, all of it takes two seconds by the log.
func (d *DebianRoot) InstallKernel(at time.Time, release, version string, kernel, initrd []byte) {
	d.t.Helper()
	name := "linux-image-" + release
	d.log(at, "startup archives unpack")
	if old := d.versions[release]; old != "" {
		d.log(at, "upgrade %s:amd64 %s %s", name, old, version)
	} else {
		d.log(at, "install %s:amd64 <none> %s", name, version)
		d.releases = append([]string{release}, d.releases...)
	}
	d.versions[release] = version
	d.Write("boot/vmlinuz-"+release, string(kernel))
	d.record(name, version, map[string][]byte{"boot/vmlinuz-" + release: kernel})
	d.log(at.Add(time.Second), "configure %s:amd64 %s <none>", name, version)
	d.Write("boot/initrd.img-"+release, string(initrd))
	made := at.Add(time.Second)
	if err := os.Chtimes(d.Initrd(release), made, made); err != nil {
		d.t.Fatal(err)
	}
	d.log(at.Add(2*time.Second), "status installed %s:amd64 %s", name, version)
	d.UpdateGRUB()
}

// InstallNote does what apt does to a package with a note in the newest kernel's
// initramfs: its trigger makes initramfs-tools make that anew.
func (d *DebianRoot) InstallNote(at time.Time, version string, initrd []byte) {
	d.t.Helper()
	d.log(at, "startup archives unpack")
	d.log(at, "install note:amd64 <none> %s", version)
	d.record("note", version, nil)
	d.Write("var/lib/dpkg/info/note.triggers", "activate-await update-initramfs\n")
	d.log(at, "status installed note:amd64 %s", version)
	d.log(at, "trigproc initramfs-tools:amd64 0.142 <none>")
	name := d.Initrd(d.releases[0])
	d.Write("boot/"+filepath.Base(name), string(initrd))
	made := at.Add(time.Second)
	if err := os.Chtimes(name, made, made); err != nil {
		d.t.Fatal(err)
	}
	d.log(at.Add(2*time.Second), "status installed initramfs-tools:amd64 0.142")
}

// UpdateGRUB writes the menu, the newest kernel first.
func (d *DebianRoot) UpdateGRUB() {
	d.t.Helper()
	d.Write("boot/loader.bin", string(d.Loader))
	var b strings.Builder
	for i, release := range d.releases {
		title := "Debian GNU/Linux"
		if i > 0 {
			title += ", with Linux " + release
		}
		fmt.Fprintf(&b, "menuentry '%s' {\n slaunch skinit\n slaunch_module /loader.bin\n linux /vmlinuz-%s %s\n initrd /initrd.img-%s\n}\n", title, release, d.Arguments, release)
	}
	d.Write("boot/grub/grub.cfg", b.String())
}

// CommandLine is the one with which GRUB starts a kernel.
func (d *DebianRoot) CommandLine(release string) string {
	return "BOOT_IMAGE=/vmlinuz-" + release + " " + d.Arguments
}
