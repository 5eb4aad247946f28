// Package xenproof is the proof that guests inherit the trust, on real Xen in QEMU: a machine
// whose Xen and dom0 were launched, vtpmd in dom0, and guests with TPMs of their own that seal
// and open secrets. It is told once, as a story, for make test and for make demo-xen.
//
// Nothing in dom0 is a stand-in but the CPU's launch (drtmsim) and the chip (swtpm): Xen, its
// toolstack, dom0's kernel and the guests' frontend are Debian's. What a guest reads in its PCRs is
// held against what is computed of the files that it was started with, and of what the
// machine's own TPM holds, without asking vtpmd.
package xenproof
