package aem

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
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

// Of several media the first that is there is read, whatever else is missing; a copy of
// any of them ends the search.
func TestOfSeveralMediaTheFirstThatIsThereIsRead(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	const absent = "UUID=0f3a1b2c-1111-2222-3333-444455556666"
	for _, c := range []struct {
		names []string
		want  string
	}{{[]string{a, b}, a}, {[]string{absent, b, a}, b}, {[]string{filepath.Join(a, "none"), a}, a}} {
		if got, err := firstMedium(c.names); err != nil || got != c.want {
			t.Errorf("of %q: %q, %v", c.names, got, err)
		}
	}
	if got, err := firstMedium([]string{absent}); err == nil || got != "" || !strings.Contains(err.Error(), "no disk has the UUID") {
		t.Errorf("of none: %q, %v", got, err)
	}
}

// The list is written in the kernel's way (proc(5)); a folder bound from within the file
// system is not the whole of it.
func TestWhereAStickIsMounted(t *testing.T) {
	const list = "29 1 8:1 / / rw - ext4 /dev/sda1 rw\n" +
		"40 29 8:17 /aem /srv rw - vfat /dev/sdb1 rw\n" +
		"41 29 8:17 / /media/my\\040stick rw,nosuid - vfat /dev/sdb1 rw\n42 short\n"
	for device, want := range map[uint64]string{unix.Mkdev(8, 17): "/media/my stick", unix.Mkdev(8, 1): "/", unix.Mkdev(8, 33): "", 0: ""} {
		if got := mountedAt([]byte(list), device); got != want {
			t.Errorf("device %d: %q, want %q", device, got, want)
		}
	}
}
