// Package bootentry tells what GRUB will load for an entry of its menu: which
// files in which order, and with which command lines, byte for byte.
package bootentry
