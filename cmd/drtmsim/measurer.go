package main

import (
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
	"github.com/antievilmaid/aem/tpm2"
)

// measurer is a TPM of either family, as far as a launch needs it.
type measurer interface {
	PCRBanks() ([]tpm.Alg, error)
	Extend(tpm.PCR, []tpm.TaggedDigest) error
	ReadPCRs(tpm.PCRs) (tpm.Banks, error)
}

func newMeasurer(ch tpm.Channel, v tpm.Version) measurer {
	if v == tpm.V12 {
		return measurer12{tpm12.New(ch)}
	}
	return tpm2.New(ch)
}

type measurer12 struct{ *tpm12.TPM }

// PCRBanks needs no command: a TPM 1.2 has the one bank.
func (measurer12) PCRBanks() ([]tpm.Alg, error) { return []tpm.Alg{tpm.SHA1}, nil }
