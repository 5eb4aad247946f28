package aem

import (
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/seal"
)

// ProvisionBeside prepares the TPM for something else than a medium that rests on it, such as the
// store of guests' TPMs: a counter of its own. Where the machine was set up, what moves the first medium's
// counter serves as the owner's password; else owner is that password.
func (m *Machine) ProvisionBeside(h Home, owner []byte) (seal.Backend, []byte, error) {
	s, err := h.Setup()
	if errors.Is(err, ErrNotSetUp) {
		return m.Chip.Provision(owner)
	}
	if err != nil {
		return nil, nil, err
	}
	first, err := m.backend(s, s.anchor())
	if err != nil {
		return nil, nil, err
	}
	known, err := m.credential(h, s.Media[0], first)
	if err != nil {
		return nil, nil, err
	}
	defer clear(known)
	b, credential, err := m.Chip.ProvisionMore(known)
	if err != nil {
		return nil, nil, fmt.Errorf("prepare the TPM for one more counter: %w", err)
	}
	return b, credential, nil
}
