package measure

import (
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
	"github.com/antievilmaid/aem/tpm2"
)

// Chip is a vTPM with the ways to it that its guest has not.
type Chip interface {
	tpm.LocalityChannel
	// Launch is the hash sequence at locality 4.
	Launch(data []byte) error
}

// Apply does the launch to a vTPM that was just started (TPM_Startup): nothing may have
// been measured into it. It leaves the vTPM at locality 0. After an error the vTPM must not
// be given to a guest.
func (l *Launch) Apply(chip Chip, v tpm.Version, algs []tpm.Alg) (err error) {
	steps, err := l.Steps(algs)
	if err != nil {
		return err
	}
	defer func() {
		if e := chip.SetLocality(localityGuest); e != nil {
			err = errors.Join(err, fmt.Errorf("bring the vTPM back to the guest's locality: %w", e))
		}
	}()
	extend := tpm2.New(chip).Extend
	if v == tpm.V12 {
		extend = tpm12.New(chip).Extend
	}
	for _, s := range steps {
		if s.ByLaunch() {
			if err := chip.Launch(s.Event.Data); err != nil {
				return fmt.Errorf("tell the vTPM what host it runs on: %w", err)
			}
			continue
		}
		if err := chip.SetLocality(s.At); err != nil {
			return fmt.Errorf("measure the guest at locality %d: %w", s.At, err)
		}
		if err := extend(s.Event.PCR, s.Event.Digests); err != nil {
			return fmt.Errorf("measure the guest: %w", err)
		}
	}
	return nil
}
