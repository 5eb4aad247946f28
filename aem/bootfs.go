package aem

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/bootentry"
)

// BootMenu reads GRUB's menu on this machine, or in a folder that stands for the file
// system that GRUB reads.
func BootMenu(dir string) (*bootentry.Menu, error) {
	if dir == "" {
		return readMenu(bootFilesystem())
	}
	return readMenu(bootentry.Filesystem{Dir: dir})
}

func readMenu(f bootentry.Filesystem) (*bootentry.Menu, error) {
	o := bootentry.Options{Filesystems: []bootentry.Filesystem{f}, Platform: "pc", CPU: "i386"}
	if _, err := os.Stat("/sys/firmware/efi"); err == nil {
		o.Platform, o.CPU = "efi", "x86_64"
	}
	menu, err := bootentry.Read(o)
	if err != nil {
		return nil, fmt.Errorf("read GRUB's menu: %w", err)
	}
	return menu, nil
}

// bootFilesystem is /boot where that is a file system of its own, and the root file
// system elsewhere. GRUB looks for it by its UUID, and some configurations put GRUB's
// name of the disk into the command line, so both are looked up.
func bootFilesystem() bootentry.Filesystem {
	f := bootentry.Filesystem{Dir: "/boot"}
	boot := deviceOf("/boot")
	if boot == deviceOf("/") {
		f.Dir = "/"
	}
	f.UUID, f.Label = diskName("/dev/disk/by-uuid", boot), diskName("/dev/disk/by-label", boot)
	if f.UUID == "" {
		f.UUID = uuidWithoutUdev(boot)
	}
	if line, err := os.ReadFile("/proc/cmdline"); err == nil {
		f.Devices = grubDevices(string(line))
	}
	return f
}

// grubDevices is GRUB's name of the disk that a kernel was read from, where the kernel's
// command line says it.
func grubDevices(line string) []string {
	if _, rest, ok := strings.Cut(line, bootImage+"("); ok {
		if name, _, ok := strings.Cut(rest, ")"); ok {
			return []string{name}
		}
	}
	return nil
}

// uuidWithoutUdev reads the UUID from the disk itself: stage 1 of a launch has no udev.
func uuidWithoutUdev(dev uint64) string {
	node, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(dev), unix.Minor(dev)))
	if err != nil {
		return ""
	}
	uuid, _ := fileSystemUUID(deviceNode(filepath.Base(node)))
	return uuid
}

// deviceOf is the number of the device that holds a file, or 0.
func deviceOf(path string) uint64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	return st.Dev
}

// rdevOf is the number of a device that a path leads to, or 0.
func rdevOf(path string) uint64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	return st.Rdev
}

// mountedAt finds in the kernel's list of mounts (proc(5), mountinfo) where the whole of a
// device's file system is mounted; empty where it is not.
func mountedAt(mountinfo []byte, device uint64) string {
	number := fmt.Sprintf("%d:%d", unix.Major(device), unix.Minor(device))
	for line := range strings.Lines(string(mountinfo)) {
		if f := strings.Fields(line); device != 0 && len(f) > 4 && f[2] == number && f[3] == "/" {
			return octal.Replace(f[4])
		}
	}
	return ""
}

// octal are the characters that the kernel writes as numbers in a list of mounts.
var octal = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// diskName is the name in one of udev's folders of the disk with a number.
func diskName(folder string, dev uint64) string {
	entries, err := os.ReadDir(folder)
	if err != nil || dev == 0 {
		return ""
	}
	for _, e := range entries {
		if rdevOf(filepath.Join(folder, e.Name())) == dev {
			return e.Name()
		}
	}
	return ""
}
