package aem

import (
	"errors"

	"github.com/antievilmaid/aem/seal"
)

// headFile holds where the journal ended, sealed to this TPM: who changes files without
// the machine can't change it with them.
const headFile = "journal-head.aem"

// ErrNoHead says that nothing is kept to hold the journal against.
var ErrNoHead = errors.New("the journal's end, which the TPM sealed, is not there: somebody removed it, or it was never kept")

// KeepHead keeps where the journal ends.
func (m *Machine) KeepHead(h Home, head []byte) error {
	b, err := m.keeper(h)
	if err != nil {
		return err
	}
	return h.keep(headFile, seal.KindHead, b, head)
}

// KeptHead is what KeepHead kept.
func (m *Machine) KeptHead(h Home) ([]byte, error) {
	if !h.has(headFile) {
		return nil, ErrNoHead
	}
	b, err := m.keeper(h)
	if err != nil {
		return nil, err
	}
	return h.fetch(headFile, b)
}

// keeper is the TPM's part for what lies in the home folder.
func (m *Machine) keeper(h Home) (seal.Backend, error) {
	s, err := h.Setup()
	if err != nil {
		return nil, err
	}
	return m.backend(s, s.anchor())
}
