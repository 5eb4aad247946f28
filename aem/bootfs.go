package aem

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/bootentry"
)

// BootFilesystem is the file system that GRUB reads on this machine, or a folder
// that stands for it: /boot where that is one of its own, the root file system
// elsewhere. GRUB looks for it by its UUID, so that is looked up, too.
func BootFilesystem(dir string) bootentry.Filesystem {
	if dir != "" {
		return bootentry.Filesystem{Dir: dir}
	}
	f := bootentry.Filesystem{Dir: "/boot"}
	boot, root := deviceOf("/boot"), deviceOf("/")
	if boot == root {
		f.Dir = "/"
	}
	f.UUID, f.Label = diskName("/dev/disk/by-uuid", boot), diskName("/dev/disk/by-label", boot)
	return f
}

// deviceOf is the number of the device that holds a file, or 0.
func deviceOf(path string) uint64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	return st.Dev
}

// diskName is the name in one of udev's folders of the disk with a number.
func diskName(folder string, dev uint64) string {
	entries, err := os.ReadDir(folder)
	if err != nil || dev == 0 {
		return ""
	}
	for _, e := range entries {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(folder, e.Name()), &st) == nil && st.Rdev == dev {
			return e.Name()
		}
	}
	return ""
}
