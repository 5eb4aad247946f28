// Package image makes the initramfs of stage 1: what the small Linux that the firmware
// launches has for a root file system. It holds the program aem as its first process,
// what that is to start, the kernel modules that it needs for that, and nothing else: no
// shell, no udev, no service. The same things give the same bytes, because the launch
// measures them.
package image
