//go:build debian

package daily_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
)

const stickUUID = "57100000-ae00-4b00-8b00-000000000001"

// newStick is an empty USB stick.
func (l *laptop) newStick() string {
	l.t.Helper()
	path := filepath.Join(folder(l.t), "stick")
	cmd := exec.Command("mke2fs", "-q", "-t", "ext4", "-U", stickUUID, path, "16M")
	if said, err := cmd.CombinedOutput(); err != nil {
		l.t.Fatalf("make the stick's file system: %v: %s", err, said)
	}
	return path
}

// copyOf is a copy of a stick, as somebody makes it who has it for a minute.
func (l *laptop) copyOf(stick string) string {
	l.t.Helper()
	b, err := os.ReadFile(stick)
	l.must(err)
	path := filepath.Join(folder(l.t), "copy")
	l.must(os.WriteFile(path, b, 0o600))
	return path
}

// plugIn leaves these sticks plugged in, and no others.
func (l *laptop) plugIn(sticks ...string) {
	l.c.Drives = nil
	for _, path := range sticks {
		l.c.Drives = append(l.c.Drives, testbed.Drive{Path: path, USB: true})
	}
}

// A second stick proves the machine. A copy of it is worth nothing after the owner's next
// sealing, two of one name are refused, and lost and revoked it opens nothing any more;
// all that by the TPM's refusal, with the stick itself unchanged.
func TestASecondStickItsCopyAndItsLoss(t *testing.T) {
	l := installed(t, plain)
	stick := l.newStick()
	l.plugIn(stick)
	l.on()
	l.proof() // of the internal medium: this one is empty, and nobody looks for it
	l.run("mkdir /mnt/stick && mount /dev/disk/by-uuid/" + stickUUID + " /mnt/stick")
	l.run("aem-setup media add blue /mnt/stick")
	l.run("aem-setup boot install --plain && aem-setup approve --yes")
	l.off()

	l.on()
	l.proof()
	l.says("mount: no", "mount | grep -q "+stickUUID+" && echo mount: yes || echo mount: no")
	copied := l.copyOf(stick)
	// The stick may be mounted elsewhere today.
	l.run("mkdir -p /media/today && mount /dev/disk/by-uuid/" + stickUUID + " /media/today && aem-setup seal --label Tuesday")
	l.off()

	l.plugIn(copied)
	l.on()
	l.refusal("superseded")
	l.off()

	l.plugIn(stick, copied)
	l.on()
	l.refusal("two disks have the medium's UUID")
	l.off()

	// The one that the owner has is good still, and then it is lost.
	l.plugIn(stick)
	l.on()
	l.proof()
	l.run("aem-setup media revoke blue")
	l.off()
	l.on()
	l.refusal("superseded")
	l.off()
	l.plugIn()
	l.on()
	l.proof()
}
