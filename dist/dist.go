// Package dist holds the files that are installed beside the programs: what puts
// aem unseal into an initramfs, launches into GRUB's menu, and what the running system
// does at each boot.
package dist

import "embed"

// Files are the files, by their paths in this folder.
//
//go:embed initramfs-tools grub systemd
var Files embed.FS
