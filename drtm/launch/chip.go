package launch

import (
	"fmt"
	"io"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
	"github.com/antievilmaid/aem/tpm2"
)

// TPM is the machine's TPM, at locality 2 until it is closed.
type TPM struct {
	tpm.Channel
	Version tpm.Version
	Closer  io.Closer // gives the locality back; nil where there is nothing to give back
}

// Close gives the locality back, so that the next stage's driver gets the TPM.
func (t *TPM) Close() error {
	if t.Closer == nil {
		return nil
	}
	return t.Closer.Close()
}

// chip is what a launch needs of either family.
type chip interface {
	ReadPCRs(tpm.PCRs) (tpm.Banks, error)
	Extend(tpm.PCR, []tpm.TaggedDigest) error
	// Event extends every bank with the hash of data, whichever banks there are.
	Event(p tpm.PCR, data []byte) error
}

func (t *TPM) chip() (chip, error) {
	switch t.Version {
	case tpm.V12:
		return chip12{tpm12.New(t)}, nil
	case tpm.V20:
		return tpm2.New(t), nil
	}
	return nil, fmt.Errorf("the TPM is of no family that can be measured into: %s", t.Version)
}

type chip12 struct{ *tpm12.TPM }

// Event hashes here: a TPM 1.2 has one bank, and it is known.
func (c chip12) Event(p tpm.PCR, data []byte) error {
	return c.Extend(p, tpm.SumAll([]tpm.Alg{tpm.SHA1}, data))
}
