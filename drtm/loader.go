package drtm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/tpm"
)

// ErrLoader says that the loader can't be launched.
var ErrLoader = errors.New("this loader can't be launched")

// maxSLB is the size of the block that SKINIT protects and can measure (AMD64
// Architecture Programmer's Manual, volume 2, "Secure Loader Block").
const maxSLB = 64 << 10

// slbHeader is the entry point and the length, 16 bits each.
const slbHeader = 4

// measuredSLB is the part of a Secure Loader Block that SKINIT hashes: as many
// bytes from its start as the 16-bit number at offset 2 says. That number
// stands in the hashed part itself, so nobody can shrink it unnoticed. Zero
// stands for 64 KiB.
func measuredSLB(slb []byte) ([]byte, error) {
	if len(slb) < slbHeader {
		return nil, fmt.Errorf("%w: a Secure Loader Block of %d bytes has no header", ErrLoader, len(slb))
	}
	entry := int(binary.LittleEndian.Uint16(slb))
	n := int(binary.LittleEndian.Uint16(slb[2:]))
	if n == 0 {
		n = maxSLB
	}
	switch {
	case n < slbHeader:
		return nil, fmt.Errorf("%w: the Secure Loader Block says that %d bytes of it count, which is less than its header", ErrLoader, n)
	case n > len(slb):
		return nil, fmt.Errorf("%w: the Secure Loader Block says that %d bytes of it count, but it has %d", ErrLoader, n, len(slb))
	case entry >= n:
		return nil, fmt.Errorf("%w: the Secure Loader Block starts to run at offset %d, behind the %d bytes that are measured", ErrLoader, entry, n)
	}
	return slb[:n], nil
}

// edxFlags is the operand of GETSEC[SENTER] that SINIT measures with itself; no
// boot loader sets any of its bits.
var edxFlags = []byte{0, 0, 0, 0}

// sinitData is what the CPU hashes on Intel: not the SINIT module but the hash
// of it, and the flags. The module is hashed with SHA-256 on a TPM 2.0 (36
// bytes together) and with SHA-1 on a TPM 1.2 (24 bytes).
func sinitData(v tpm.Version, sinit []byte) ([]byte, error) {
	if len(sinit) == 0 {
		return nil, fmt.Errorf("%w: the SINIT module is empty", ErrLoader)
	}
	a := tpm.SHA256
	if v == tpm.V12 {
		a = tpm.SHA1
	}
	return append(a.Sum(sinit), edxFlags...), nil
}

// launchData is what the CPU's hash sequence covers.
func launchData(p Platform, v tpm.Version, loader []byte) ([]byte, error) {
	switch p {
	case TXT:
		return sinitData(v, loader)
	case SKINIT:
		return measuredSLB(loader)
	}
	return nil, fmt.Errorf("%w: %s", ErrLoader, p)
}
