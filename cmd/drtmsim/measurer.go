package main

import (
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
)

// measurer is a TPM of either family, as far as a launch needs it.
type measurer interface {
	banks() ([]tpm.Alg, error)
	extend(tpm.PCR, []tpm.TaggedDigest) error
	read(tpm.PCRs) (tpm.Banks, error)
}

func newMeasurer(ch tpm.Channel, v tpm.Version) measurer {
	if v == tpm.V12 {
		return measurer12{ch}
	}
	return measurer20{tpm2.New(ch)}
}

type measurer20 struct{ tpm *tpm2.TPM }

func (m measurer20) banks() ([]tpm.Alg, error)                    { return m.tpm.PCRBanks() }
func (m measurer20) extend(p tpm.PCR, d []tpm.TaggedDigest) error { return m.tpm.Extend(p, d) }
func (m measurer20) read(set tpm.PCRs) (tpm.Banks, error)         { return m.tpm.ReadPCRs(set) }
