package aem

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The UUIDs are those that the tools which make file systems say.
func TestUUIDsOfFileSystems(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	const uuid = "0f3a1b2c-1111-2222-3333-444455556666"
	cmd := exec.Command("mke2fs", "-q", "-t", "ext4", "-U", uuid, path, "4M")
	cmd.Env = append(cmd.Environ(), "PATH=/usr/sbin:/sbin:/usr/bin:/bin")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, err := fileSystemUUID(path); err != nil || got != uuid {
		t.Errorf("ext4: %q, %v", got, err)
	}
	fat := make([]byte, 2048)
	copy(fat[82:], "FAT32   ")
	copy(fat[67:], []byte{0xcd, 0xab, 0x34, 0x12})
	if got := superblockUUID(fat); got != "1234-ABCD" {
		t.Errorf("FAT32: %q", got)
	}
	if got := superblockUUID(make([]byte, 2048)); got != "" {
		t.Errorf("no file system: %q", got)
	}
	if _, err := findMedium("UUID=" + uuid); err == nil || !strings.Contains(err.Error(), uuid) {
		t.Errorf("a UUID that no disk has: %v", err)
	}
	if got, err := findMedium("/boot"); err != nil || got != "/boot" {
		t.Errorf("a path: %q, %v", got, err)
	}
}
