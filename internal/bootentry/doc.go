// Package bootentry tells what GRUB will load for an entry of its menu: which
// files in which order, and with which command lines, byte for byte. From that the
// next boot's measurements follow.
//
// GRUB's configuration is a program. It has variables, conditions, loops and
// functions, reads other configurations and an environment block, and asks the
// machine what it is. Xen's options on a Debian machine, for instance, depend on
// whether GRUB was started by a BIOS, and whether a Qubes machine has AEM's entries
// at all depends on a folder. So [Read] runs that program as GRUB does, and then each
// menu entry as if it were chosen. The rules are read off GRUB's sources (2.06 and
// Red Hat's changes to it); functions name the source they follow.
//
// A wrong prediction is worse than none: a secret sealed to it does not open. What
// can't be known from here, the hardware or the numbers of the disks, is carried
// along as unknown and does no harm where it decides only about fonts and colours.
// Where it would decide about a file or a command line, and wherever a command or a
// form is not modelled, there is an [Error] with the place, and [ErrUnsupported] in
// it. A condition that can't be told is followed both ways, which have to agree.
//
// The configuration lies on a disk that an attacker may have had. Its running time,
// memory and depth are bounded, and no path and no symbolic link leads out of the
// folders that are given.
//
// # Why not u-root's parser
//
// u-root has one (pkg/boot/grub, v0.16.0). It works line by line and is made for
// finding something to boot. It does not expand variables, so `${xen_rm_opts}` goes
// into the command line as it stands. It takes both sides of an if, of which the
// second then wins, and the bodies of functions where they stand. It knows no
// submenus: to it "1" may be an entry inside one. It passes over what it does not
// know: slaunch, chainloader, source. Of `initrd a b` it takes the first file. Its
// command line of a Linux kernel lacks BOOT_IMAGE=, that of a module begins with the
// file's name, which GRUB leaves out, and of '\x20' it makes six backslashes where
// GRUB makes two. It never says that it is not sure.
package bootentry
