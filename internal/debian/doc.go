// Package debian is a real Debian machine with an encrypted root, for tests of
// what an owner lives through: GRUB from the disk, the passphrase prompt, a login,
// an update, a power cut, and an evil maid at the disk while the owner is away.
//
// [Build] makes the disk of a [Variant] with scripts/build-debian, once; it is kept
// below build/debian until the script or a package of it changes. One disk starts
// with a BIOS and with UEFI. A test works on an overlay of it:
//
//	image, err := debian.Build(ctx, debian.Variant{Initramfs: debian.InitramfsTools})
//	disk, err := image.Overlay(t.TempDir())
//	m, err := disk.Boot(ctx, debian.Config{TPM: tpm.V20, TPMDir: dir, Launch: &debian.Launch{Platform: drtm.TXT}})
//	defer m.Kill()
//	err = m.Unlock(ctx, debian.Passphrase)
//	err = m.Login(ctx, "root", debian.RootPassword)
//	out, exit, err := m.Run(ctx, "update-grub")
//	err = m.PowerOff(ctx)
//
// While the machine is off, [Disk.Extract] and [Disk.Replace] read and write its
// partitions, [Disk.ReadBoot] and [Disk.WriteBoot] the files of /boot, which is not
// encrypted. [Disk.Overlay] branches off a machine in the state that it is in, so
// that an installation is made once and used by several tests.
//
// # Dynamic launch
//
// GRUB boots from the disk by itself, as the owner's machine does, and drtmsim, in
// front of the TPM, launches by files on this side. They must be the files that
// GRUB boots, and the command line must be GRUB's to the byte. So [Disk.NextBoot]
// takes /boot out of the disk and evaluates GRUB's configuration, and [Disk.Boot]
// gives the result to drtmsim. What aem predict says of the same folder can then
// be held against the launch.
//
// # The firmware's log
//
// Under a BIOS the kernel finds the firmware's log. Under UEFI it gets the log only
// through its EFI entry, and the command linux of Debian 12's GRUB uses that with
// Secure Boot alone. A test that needs the log there writes linuxefi and initrdefi
// into grub.cfg in place of linux and initrd.
//
// # What it needs of the machine
//
// Everything is made out of files: folders become file systems by mke2fs -d, the
// root is encrypted as a file by an offline cryptsetup reencrypt, a partition of a
// disk with overlays is cut out by qemu-img and read with debugfs. No loop device,
// no device-mapper, no mount of an image is needed, because containers and the
// virtual machines that run tests often have none. mmdebstrap unpacks Debian as root, or
// in a user namespace.
package debian
