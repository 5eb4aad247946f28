//go:build debian

package daily_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
)

const (
	blueUUID = "57100000-ae00-4b00-8b00-000000000001"
	redUUID  = "57100000-ae00-4b00-8b00-000000000002"
)

// newStick is an empty USB stick.
func (l *laptop) newStick(uuid string) string {
	l.t.Helper()
	path := filepath.Join(folder(l.t), "stick")
	cmd := exec.Command("mke2fs", "-q", "-t", "ext4", "-U", uuid, path, "16M")
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

// mounted is the shell's command to mount a stick.
func mounted(uuid, at string) string {
	return "mkdir -p " + at + " && mount /dev/disk/by-uuid/" + uuid + " " + at
}

// An owner relies on two sticks and no more on the disk. A copy of one is worth nothing after
// the next sealing, two disks of one name are refused, and the lost one, revoked, opens nothing
// any more; all that by the TPM's refusal, with the stick itself unchanged.
func TestTwoSticksACopyAndALoss(t *testing.T) {
	l := installed(t, plain)
	blue, red := l.newStick(blueUUID), l.newStick(redUUID)
	l.plugIn(blue, red)
	l.on()
	l.proof() // of the disk: these are empty, and nobody looks for them yet
	l.run(mounted(blueUUID, "/mnt/blue") + " && aem-setup media add blue /mnt/blue")
	l.run(mounted(redUUID, "/mnt/red") + " && aem-setup media add red /mnt/red")
	l.run("aem-setup media revoke internal")
	l.run("aem-setup boot install --plain && aem-setup approve --yes")
	l.off()

	l.plugIn(blue)
	l.on()
	l.proof()
	l.says("mounted: 0", "echo mounted: $(grep -c "+blueUUID+" /proc/self/mountinfo)")
	l.says("blue", "aem-setup media list")
	copied := l.copyOf(blue)
	// The stick may be mounted elsewhere today, and the other one is away.
	l.run(mounted(blueUUID, "/media/today") + " && aem-setup seal --label Tuesday")
	l.off()

	l.plugIn(copied)
	l.on()
	l.refusal("superseded")
	l.off()

	// The one that was away opens what it opened when it was sealed last.
	l.plugIn(red)
	l.on()
	l.proof()
	l.run("aem-setup media revoke blue")
	l.off()
	l.plugIn(blue)
	l.on()
	l.refusal("superseded")
	l.off()

	l.c.Drives = []testbed.Drive{{Path: red}, {Path: l.copyOf(red)}}
	l.on()
	l.expect("DID NOT PROVE ITSELF")
	l.expect("two disks")
	l.m.Kill()
	l.plugIn(red)
	l.on()
	l.proof()
}
