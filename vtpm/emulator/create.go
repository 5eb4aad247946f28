package emulator

import (
	"context"
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
)

// Create makes a new TPM, as its manufacturer would, and returns its first state. Nothing else ever does: with a TPM 2.0
// its seeds, with a TPM 1.2 its endorsement key, too, which a TPM 2.0 derives from its seed.
func (h *Host) Create(ctx context.Context, cfg Config) ([]byte, error) {
	if err := h.check(cfg); err != nil {
		return nil, err
	}
	if cfg.State != nil || cfg.Volatile != nil {
		return nil, errors.New("create a vTPM: it has a state already")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e, err := h.spawn(cfg)
	if err != nil {
		return nil, fmt.Errorf("create a vTPM: %w", err)
	}
	if err := e.create(ctx); err != nil {
		e.Kill()
		return nil, fmt.Errorf("create a vTPM: %w", err)
	}
	return e.State(), nil
}

func (e *Emulator) create(ctx context.Context) error {
	if err := e.controlled(func() error { return e.control.SetBufferSize(vtpm.BufferSize) }); err != nil {
		return err
	}
	if err := e.PowerOn(ctx, Inheritance{}); err != nil {
		return err
	}
	if e.version == tpm.V12 {
		// TPM_CreateEndorsementKeyPair: no nonce that anybody would check; RSA, OAEP-SHA1-MGF1, no signatures; 2048
		// bits, two primes, the usual exponent (Part 3, clause 14.1; Part 2, clause 5.10).
		params := append(make([]byte, 20), 0, 0, 0, 1, 0, 3, 0, 1, 0, 0, 0, 12, 0, 0, 8, 0, 0, 0, 0, 2, 0, 0, 0, 0)
		if err := e.expect("TPM_CreateEndorsementKeyPair", packet(0xc1, 0x78, params...), 0); err != nil {
			return err
		}
	}
	return e.Stop(ctx)
}
