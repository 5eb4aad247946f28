#!/bin/bash
# Puts aem into an initramfs in which systemd runs, so that nothing asks for a passphrase
# before the machine has proved itself. dracut calls these functions, and is made to by
# /etc/dracut.conf.d/aem.conf: where one of them says no, it makes no initramfs at all,
# because one without the proof would ask for the passphrase as if all were well.

check() {
	if [ ! -x "$dracutsysrootdir$systemdutildir/systemd" ]; then
		derror "aem: an initramfs without systemd can't be made to wait for the proof yet"
		return 1
	fi
	if [ ! -e "$dracutsysrootdir/etc/aem/boot.conf" ]; then
		derror "aem: /etc/aem/boot.conf is missing; aem-setup boot install writes it"
		return 1
	fi
	require_binaries aem modprobe
}

depends() {
	echo systemd
}

# What is needed to read the medium and to talk to the TPM, also where the running
# system needs none of it.
installkernel() {
	hostonly='' instmods tpm_tis tpm_crb ext4 vfat nls_cp437 nls_ascii nls_iso8859-1 usb_storage uas sd_mod '=drivers/usb/host'
}

# These run after the proof or not at all: what asks for a passphrase, what shows such a
# question, what goes on into the system, and the shells that a failed boot offers.
# Who starts one of them starts the proof with it.
gated="systemd-cryptsetup@.service systemd-ask-password-console.service systemd-ask-password-plymouth.service
systemd-hibernate-resume@.service systemd-hibernate-resume.service dracut-mount.service sysroot.mount
emergency.service rescue.service dracut-emergency.service debug-shell.service"

install() {
	local unit units=/etc/systemd/system
	inst_multiple aem cp modprobe mkdir rm sleep || exit 1
	inst_simple /etc/aem/boot.conf || exit 1
	inst_script "$moddir/aem-gate" /usr/bin/aem-gate || exit 1
	inst_simple "$moddir/aem-unseal.service" $units/aem-unseal.service || exit 1
	for unit in $gated; do
		inst_simple "$moddir/gated.conf" "$units/$unit.d/aem.conf" || exit 1
	done
	# Also a boot that opens no disk at all waits for the proof.
	mkdir -p "$initdir$units/initrd.target.requires" || exit 1
	ln -sf ../aem-unseal.service "$initdir$units/initrd.target.requires/aem-unseal.service" || exit 1
}
