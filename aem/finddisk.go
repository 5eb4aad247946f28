package aem

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// ErrTwoMedia says that two disks claim to be the medium. One of them is a copy, and
// nobody can say which.
var ErrTwoMedia = errors.New("two disks have the medium's UUID; take out the one that is not yours")

// uuidPrefix marks a medium that is looked for by the UUID of its file system.
const uuidPrefix = "UUID="

// findMedium turns a medium's name into a path: it is one, or UUID= and the UUID of
// its file system. Every block device is looked at, because the links that udev makes
// show one disk of two.
func findMedium(name string) (string, error) {
	uuid, ok := strings.CutPrefix(name, uuidPrefix)
	if !ok {
		return name, nil
	}
	devices, err := os.ReadDir("/sys/class/block")
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoMedium, err)
	}
	var found []string
	for _, d := range devices {
		path := deviceNode(d.Name())
		if got, err := fileSystemUUID(path); err == nil && strings.EqualFold(got, uuid) {
			found = append(found, path)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("%w: no disk has the UUID %s: %w", ErrNoMedium, uuid, os.ErrNotExist)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%w: %s", ErrTwoMedia, strings.Join(found, ", "))
}

// deviceNode is the path of a block device that sysfs names.
func deviceNode(name string) string {
	return filepath.Join("/dev", strings.ReplaceAll(name, "!", "/"))
}

// fileSystemUUID reads the UUID of a file system that a medium may have, as blkid
// prints it; empty for others.
func fileSystemUUID(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, 2048)
	if _, err := io.ReadFull(f, b); err != nil {
		return "", err
	}
	return superblockUUID(b), nil
}

// superblockUUID finds the UUID in the first 2 KiB of a file system: ext2 to ext4
// (superblock at 1024, UUID at 104 of it), FAT (serial number at 67 or 39), XFS (at 32).
func superblockUUID(b []byte) string {
	hyphens := func(u []byte) string { return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:16]) }
	serial := func(at int) string {
		n := binary.LittleEndian.Uint32(b[at:])
		return fmt.Sprintf("%04X-%04X", n>>16, n&0xffff)
	}
	switch {
	case binary.LittleEndian.Uint16(b[1024+56:]) == 0xef53:
		return hyphens(b[1024+104:])
	case string(b[:4]) == "XFSB":
		return hyphens(b[32:])
	case string(b[82:87]) == "FAT32":
		return serial(67)
	case string(b[54:57]) == "FAT":
		return serial(39)
	}
	return ""
}
