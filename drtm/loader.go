package drtm

import (
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/drtm/skl"
	"github.com/antievilmaid/aem/tpm"
)

// ErrLoader says that the loader can't be launched.
var ErrLoader = errors.New("this loader can't be launched")

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
		block, err := skl.Parse(loader)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrLoader, err)
		}
		return block.Measured, nil
	}
	return nil, fmt.Errorf("%w: %s", ErrLoader, p)
}
