package aem

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/seal"
)

// mediumTypes are the file systems that a medium may have, in the order in which
// they are tried.
var mediumTypes = []string{"ext4", "vfat", "ext2", "xfs", "btrfs"}

// ErrNoMedium says that the medium is not there, or can't be read.
var ErrNoMedium = errors.New("the medium can't be read")

// ReadMedium reads the records of a medium into memory: of the first that is there. A
// name is that of a folder, or of a block device, which is mounted for that time; or it
// is UUID= and the UUID of the device's file system. When it returns, the medium may be
// pulled out. Where none is there yet they are waited for: an initramfs runs while
// drivers are still probing.
func ReadMedium(names []string, wait time.Duration) ([]seal.Stored, error) {
	path, err := waitForMedium(names, wait)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoMedium, err)
	}
	return readMedium(path)
}

// MountDisk mounts a block device, named as a medium is, read-only and so that nothing on
// it can run, on a folder that it makes. It waits for the device as [ReadMedium] does.
func MountDisk(name, folder string, wait time.Duration) error {
	path, err := waitForMedium([]string{name}, wait)
	if err != nil {
		return fmt.Errorf("mount %s: %w", name, err)
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	return mountReadOnly(path, folder)
}

// waitForMedium is the path of the first medium that is there, once one is.
func waitForMedium(names []string, wait time.Duration) (string, error) {
	for deadline := time.Now().Add(wait); ; time.Sleep(20 * time.Millisecond) {
		path, err := firstMedium(names)
		if err == nil || errors.Is(err, ErrTwoMedia) || time.Now().After(deadline) {
			return path, err
		}
	}
}

// firstMedium finds the first medium that is there. Two that claim one name end the
// search, also where another medium is there: somebody made a copy.
func firstMedium(names []string) (string, error) {
	var first string
	var missing error
	for _, name := range names {
		path, err := findMedium(name)
		if err == nil {
			_, err = os.Stat(path)
		}
		switch {
		case errors.Is(err, ErrTwoMedia):
			return "", err
		case err != nil:
			missing = errors.Join(missing, err)
		case first == "":
			first = path
		}
	}
	if first == "" {
		return "", missing
	}
	return first, nil
}

// readMedium reads the records of a folder, or of a block device.
func readMedium(path string) (records []seal.Stored, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoMedium, err)
	}
	folder := path
	if info.Mode()&fs.ModeDevice != 0 {
		if folder, err = os.MkdirTemp("", "aem-medium-"); err != nil {
			return nil, fmt.Errorf("make a folder to mount the medium on: %w", err)
		}
		defer os.Remove(folder)
		if err := mountReadOnly(path, folder); err != nil {
			return nil, err
		}
		defer func() {
			if uerr := unix.Unmount(folder, unix.MNT_DETACH); uerr != nil {
				err = errors.Join(err, fmt.Errorf("unmount the medium: %w", uerr))
			}
		}()
	}
	records, err = seal.Read(os.DirFS(filepath.Join(folder, RecordsFolder)))
	if errors.Is(err, seal.ErrNoRecord) {
		return nil, nil
	}
	return records, err
}

// withoutJournal are the options by which a file system leaves its journal alone.
var withoutJournal = map[string]string{"ext4": "noload", "xfs": "norecovery"}

// mountReadOnly mounts a medium so that nothing on it can run, and nothing but
// its journal is written.
//
// The journal is replayed where that is possible: after a power cut the newest
// record may be known to the journal alone, and the TPM's counter has moved on
// from the one before it. A medium that is write-protected is read as it stands.
func mountReadOnly(device, folder string) error {
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	var all error
	for _, kind := range mediumTypes {
		err := unix.Mount(device, folder, kind, flags, "")
		if option := withoutJournal[kind]; option != "" && (errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES)) {
			err = unix.Mount(device, folder, kind, flags, option)
		}
		if err == nil {
			return nil
		}
		all = errors.Join(all, fmt.Errorf("as %s: %w", kind, err))
	}
	return fmt.Errorf("%w: mount %s: %w", ErrNoMedium, device, all)
}
