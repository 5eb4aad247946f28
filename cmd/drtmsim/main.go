// drtmsim gives an emulated machine a dynamic launch.
//
// QEMU emulates neither GETSEC[SENTER] nor SKINIT, and drops what a guest
// writes to its TPM at locality 4. drtmsim stands between QEMU and the TPM
// emulator swtpm, and plays the CPU and the launch code: as soon as the
// firmware has started the TPM, it sends the real locality-4 hash sequence
// over a loader image, extends PCRs 17 and 18 in every bank with what a
// secure launch of the guest's kernel measures, and hands the event log over
// to the guest. docs/drtmsim.md is the manual.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "drtmsim:", err)
		os.Exit(1)
	}
}
