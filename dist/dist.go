// Package dist holds the files that are installed beside the programs: what puts
// aem unseal into an initramfs, launches into GRUB's menu, what the running system does
// at each boot, and aem-setup approve behind each run of a package manager.
package dist

import "embed"

// Files are the files, by their paths in this folder.
//
//go:embed initramfs-tools dracut grub systemd hooks
var Files embed.FS
