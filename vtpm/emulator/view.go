package emulator

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	// stateDir is where an emulator finds its state in the view.
	stateDir = "/state"
	// stateLimit is the size of an emulator's state in bytes, twice over, because a new one is
	// written beside the old. The largest that libtpms makes has 150 KB.
	stateLimit = 1 << 20
)

// libraries are the places of shared libraries and of what finds them (ld.so(8)).
var libraries = []string{"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"}

// enterView gives the calling thread, which must be locked, a root of its own: swtpm, the libraries, all
// read-only, and a place for the state. What it starts inherits that.
func enterView(swtpm string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return fmt.Errorf("leave the mount namespace: %w", err)
	}
	// Emulators have users of their own, who must be able to pass the view's folders, whatever the
	// manager's umask. It is this thread's alone from here on.
	defer unix.Umask(unix.Umask(0o022))
	// Nothing that is mounted from here on may show outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	const root = "/tmp" // any folder that exists; it is covered in this namespace alone
	if err := unix.Mount("tmpfs", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=64k,mode=0755"); err != nil {
		return fmt.Errorf("mount the view's root: %w", err)
	}
	for _, path := range append([]string{swtpm}, libraries...) {
		if err := show(root, path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Mkdir(root+stateDir, 0o755); err != nil {
		return err
	}
	if err := unix.Chdir(root); err != nil {
		return fmt.Errorf("enter the view: %w", err)
	}
	// The old root comes to lie over the new one and is then taken away (pivot_root(2)).
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("make the view the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter the view: %w", err)
	}
	return readOnly("/", 0)
}

// show makes path visible under root at the same place, read-only. A link is made again.
func show(root, path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	target := root + path
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	switch mode := info.Mode(); {
	case mode&fs.ModeSymlink != 0:
		link, err := os.Readlink(path)
		if err != nil {
			return err
		}
		return os.Symlink(link, target) // /lib is usually usr/lib, which stands in the list itself
	case mode.IsDir():
		err = os.Mkdir(target, 0o755)
	default:
		err = os.WriteFile(target, nil, 0o644)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil // shown already, within a folder or by another name
	} else if err != nil {
		return err
	}
	if err := unix.Mount(path, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("show %s to emulators: %w", path, err)
	}
	return readOnly(target, unix.MS_BIND)
}

func readOnly(path string, kind uintptr) error {
	if err := unix.Mount("", path, "", kind|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("make the emulators' view of %s read-only: %w", path, err)
	}
	return nil
}

// mountState mounts a fresh memory file system for one emulator's state and returns its folder. The
// emulator that is started next keeps it; unmountState takes it out of our own namespace.
func mountState(uid, gid uint32) (*os.File, error) {
	options := fmt.Sprintf("size=%d,nr_inodes=16,mode=0700,uid=%d,gid=%d", stateLimit, uid, gid)
	if err := unix.Mount("tmpfs", stateDir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		return nil, fmt.Errorf("mount a memory file system for a vTPM's state: %w", err)
	}
	fd, err := unix.Open(stateDir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		unmountState()
		return nil, fmt.Errorf("open a vTPM's state folder: %w", err)
	}
	return os.NewFile(uintptr(fd), "vTPM state"), nil
}

func unmountState() { unix.Unmount(stateDir, unix.MNT_DETACH) }
