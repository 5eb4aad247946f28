// Package dist holds the files that are installed beside the programs: what puts
// aem unseal into an initramfs, and launches into GRUB's menu.
package dist

import "embed"

// Files are the files, by their paths in this folder.
//
//go:embed initramfs-tools grub
var Files embed.FS
