package testbed

import (
	"fmt"
	"strconv"
	"strings"
)

// Config describes a guest. The zero Config is a PC that has nothing to boot.
type Config struct {
	// Image is what the guest boots: guestinit and what a test adds to it, on
	// the kernel that FindKernel finds.
	Image *Image
	// Kernel and Initrd are the files to boot where there is no Image. Without
	// either, the firmware boots from the first drive.
	Kernel, Initrd string
	// Append goes to the kernel's command line, before console=ttyS0 panic=-1
	// quiet where there is an Image, and alone otherwise.
	Append string
	// Memory is in MiB; 512 where it is 0. CPUs is 1 where it is 0.
	Memory, CPUs int

	// TPM is the control socket of swtpm, or of who stands in front of it. The
	// guest has no TPM where it is empty.
	TPM string
	// TPMDevice is tpm-tis (where it is empty) or tpm-crb, which is for TPM 2.0 alone.
	TPMDevice string
	// HandOver is a file of 64 KiB that the guest sees as the second BAR of an
	// inter-VM shared memory device (ivshmem-plain): what a launch hands over.
	HandOver string

	Drives []Drive
	// Patient gives a guest that is emulated a clock that goes by what it executes, and so waits with it while
	// the machine does something else: its firmware's patience, mostly below a second, is not used up by that.
	Patient bool
	// Extra goes to QEMU's command line as it is.
	Extra []string
	// Resets lets the guest restart when it resets. Otherwise a reset ends it.
	Resets bool
}

// Drive is a disk of the guest.
type Drive struct {
	Path     string
	Format   string // raw where it is empty; qcow2
	USB      bool   // a removable stick (/dev/sda) and not a virtio disk (/dev/vda)
	ReadOnly bool
}

// sockets are the paths of the sockets that QEMU connects to.
type sockets struct{ serial, qmp string }

func (c *Config) args(s sockets) []string {
	args := []string{
		"-accel", accelerator(), "-nodefaults", "-no-user-config", "-M", "q35", "-cpu", "max", "-display", "none", "-vga", "std",
		"-m", strconv.Itoa(positive(c.Memory, 512)), "-smp", strconv.Itoa(positive(c.CPUs, 1)),
		"-chardev", "socket,id=serial,path=" + s.serial, "-serial", "chardev:serial",
		"-chardev", "socket,id=qmp,path=" + s.qmp, "-mon", "chardev=qmp,mode=control",
	}
	if c.Patient && accelerator() == "tcg" {
		args = append(args, "-icount", "shift=2")
	}
	if !c.Resets {
		args = append(args, "-no-reboot")
	}
	for _, o := range [][2]string{{"-kernel", c.Kernel}, {"-initrd", c.Initrd}, {"-append", c.Append}} {
		if o[1] != "" {
			args = append(args, o[0], o[1])
		}
	}
	if c.TPM != "" {
		device := c.TPMDevice
		if device == "" {
			device = "tpm-tis"
		}
		args = append(args, "-chardev", "socket,id=tpm,path="+comma(c.TPM),
			"-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", device+",tpmdev=tpm0")
	}
	if c.HandOver != "" {
		args = append(args, "-object", "memory-backend-file,id=drtm,share=on,size=64K,mem-path="+comma(c.HandOver),
			"-device", "ivshmem-plain,memdev=drtm")
	}
	return append(append(args, c.driveArgs()...), c.Extra...)
}

func (c *Config) driveArgs() []string {
	var args []string
	usb := false
	for i, d := range c.Drives {
		format, readOnly := d.Format, "off"
		if format == "" {
			format = "raw"
		}
		if d.ReadOnly {
			readOnly = "on"
		}
		// The host may keep what the guest wrote in its cache: a killed QEMU is
		// the guest's power cut, and the host's own is nobody's test.
		args = append(args, "-drive", fmt.Sprintf("if=none,id=drive%d,format=%s,readonly=%s,cache=unsafe,file=%s", i, format, readOnly, comma(d.Path)))
		device := "virtio-blk-pci"
		if d.USB {
			device = "usb-storage,removable=on"
			if !usb {
				args = append(args, "-device", "qemu-xhci")
			}
			usb = true
		}
		args = append(args, "-device", fmt.Sprintf("%s,drive=drive%d", device, i))
	}
	return args
}

// comma writes a path so that QEMU doesn't take a comma in it for an option's end.
func comma(path string) string { return strings.ReplaceAll(path, ",", ",,") }

func positive(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}
