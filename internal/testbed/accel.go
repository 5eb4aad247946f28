package testbed

import (
	"context"
	"os"
	"os/exec"
	"sync"
	"time"
)

// accelerator is kvm where that works, and tcg, which emulates, otherwise.
// AEM_ACCEL decides where it is set.
func accelerator() string {
	if a := os.Getenv("AEM_ACCEL"); a != "" {
		return a
	}
	if kvmWorks() {
		return "kvm"
	}
	return "tcg"
}

// kvmPatience is enough for a kernel to start and find no root file system
// under a KVM that works: it takes a second.
const kvmPatience = 8 * time.Second

// kvmWorks finds out by starting a kernel. That /dev/kvm opens is not enough:
// inside some virtual machines it does, and then aborts at a register that it
// can't set, or runs a guest that never leaves its first instructions.
var kvmWorks = sync.OnceValue(func() bool {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	f.Close()
	k, err := FindKernel()
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), kvmPatience)
	defer cancel()
	// Without an initramfs the kernel panics, and then resets, which ends QEMU.
	return exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "kvm", "-cpu", "max", "-M", "q35", "-m", "256",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-kernel", k.Image, "-append", "panic=-1 quiet").Run() == nil
})
