//go:build debian

package daily_test

import "testing"

// buildNote makes a package that changes the initramfs, as many do, in two versions.
const buildNote = `set -e
for v in 1 2; do
	d=/root/note$v
	mkdir -p $d/DEBIAN $d/usr/share/initramfs-tools/hooks
	printf 'Package: note\nVersion: %s\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\nDescription: a note in the initramfs\n' $v >$d/DEBIAN/control
	printf '#!/bin/sh\n[ "$1" = prereqs ] || echo %s >"$DESTDIR/note"\n' $v >$d/usr/share/initramfs-tools/hooks/note
	printf '#!/bin/sh\n[ "$1" != configure ] || update-initramfs -u\n' >$d/DEBIAN/postinst
	chmod 755 $d/DEBIAN/postinst $d/usr/share/initramfs-tools/hooks/note
	dpkg-deb --root-owner-group -b $d /root/note_$v.deb >/dev/null
done`

// An update by apt is approved by its hook, and the next boot proves itself without a
// question; so is one by dpkg alone. An initramfs that somebody made by hand is refused,
// named, and approved by its owner.
func TestUpdatesByThePackageManager(t *testing.T) {
	l := installed(t, plain)
	l.on()
	l.proof()
	l.run(buildNote)
	l.run("apt-get install -y /root/note_1.deb")
	l.says("because note 1 was installed", "aem-setup journal")
	l.off()
	l.on()
	l.proof()
	l.run("apt-get install -y /root/note_2.deb")
	l.off()
	l.on()
	l.proof()

	l.run("dpkg -i /root/note_1.deb")
	l.off()
	l.on()
	l.proof()

	l.run(noteInitramfs)
	l.off()
	l.on()
	l.refusal("initramfs")
	// What runs now did not prove itself, so nothing is approved in it without the owner.
	l.says("exit 4", "aem-setup approve --auto; echo exit $?")
	l.run("aem-setup approve --yes")
	l.off()
	l.on()
	l.proof()
}
