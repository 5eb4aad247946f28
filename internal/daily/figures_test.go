//go:build debian

package daily_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// started is printed by a script of the test alone, right before the proof's or the peer's.
const started = "the scripts of the boot begin"

const mark = "printf '%s\\n' '#!/bin/sh' '[ \"$1\" != prereqs ] || exit 0' 'echo " + started + " >/dev/console' >/etc/initramfs-tools/scripts/init-premount/aaa && chmod 755 /etc/initramfs-tools/scripts/init-premount/aaa"

// since is the time from the kernel's start, and from the first script, to a text.
type since struct{ kernel, script time.Duration }

// watch starts the machine and measures until a text, on the clock of this side.
func (l *laptop) watch(text string) since {
	l.t.Helper()
	l.on()
	l.expect("Loading initial ramdisk") // GRUB's last words
	kernel := time.Now()
	l.expect(started)
	script := time.Now()
	l.expect(text)
	now := time.Now()
	return since{now.Sub(kernel), now.Sub(script)}
}

// median is the one in the middle, of each.
func median(list []since) since {
	of := func(get func(since) time.Duration) time.Duration {
		var all []time.Duration
		for _, s := range list {
			all = append(all, get(s))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	return since{of(func(s since) time.Duration { return s.kernel }), of(func(s since) time.Duration { return s.script })}
}

// initramfs is the size of the initramfs, in bytes.
func (l *laptop) initramfs() int {
	l.t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(l.run("stat -c %s /boot/initrd.img-$(uname -r)")))
	l.must(err)
	return n
}

// From the kernel's start to the proof, beside the same steps done with tpm2-tools, in the
// same guest. The figures are reported, not judged; that both show their text is.
func TestFiguresBesideTpm2Tools(t *testing.T) {
	const runs = 3
	ours := installed(t, plain)
	ours.on()
	ours.proof()
	ours.run(mark + " && update-initramfs -u")
	ours.run("aem-setup approve --yes")
	withAEM := ours.initramfs()
	ours.off()
	var mine []since
	for range runs {
		mine = append(mine, ours.watch(sentence))
		ours.m.Kill()
	}

	peer := newLaptop(t, plain)
	peer.on()
	peer.login()
	peer.run(mark + " && update-initramfs -u")
	without := peer.initramfs()
	for name, to := range map[string]string{
		"peer-hook": "/etc/initramfs-tools/hooks/peer", "peer-unseal": "/etc/initramfs-tools/scripts/init-premount/peer",
	} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		peer.must(err)
		peer.must(peer.m.CopyIn(peer.ctx, to, 0o755, b))
	}
	peer.run(`set -e
export TPM2TOOLS_TCTI=device:/dev/tpmrm0
mkdir -p /boot/peer /etc/peer && cd /boot/peer
echo "BOOT=$(findmnt -no UUID /boot)" >/etc/peer/conf
echo "DISK=$(lsblk -nro UUID,FSTYPE | awk '$2 == "crypto_LUKS" { print $1; exit }')" >>/etc/peer/conf
tpm2 createprimary -Q -C o -G ecc -c /root/primary
tpm2 evictcontrol -Q -C o -c /root/primary 0x81000001
tpm2 startauthsession -Q -S /root/trial
tpm2 policypcr -Q -S /root/trial -l sha256:0,7 -L /root/policy
tpm2 flushcontext -Q /root/trial
printf 'the peer shows this' | tpm2 create -Q -C 0x81000001 -L /root/policy -u pub -r priv -i -
tpm2 nvdefine -Q -C o -s 32 -a 'ownerread|ownerwrite' 0x1500001
head -c 32 /dev/urandom | tpm2 nvwrite -Q -C o -i - 0x1500001
update-initramfs -u`)
	withPeer := peer.initramfs()
	peer.off()
	var theirs []since
	for range runs {
		theirs = append(theirs, peer.watch("PEER: the peer shows this"))
		peer.m.Kill()
	}

	a, b := median(mine), median(theirs)
	t.Logf("from the kernel's start to the proof: %v; with tpm2-tools: %v; ratio %.2f", a.kernel, b.kernel, float64(b.kernel)/float64(a.kernel))
	t.Logf("from the initramfs's first script to the proof: %v; with tpm2-tools: %v; ratio %.2f", a.script, b.script, float64(b.script)/float64(a.script))
	t.Logf("added to the initramfs, compressed: %d bytes; with tpm2-tools: %d bytes", withAEM-without, withPeer-without)
}
