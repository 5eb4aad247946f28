package aem

import (
	"fmt"

	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
)

// chip20 is a TPM 2.0.
type chip20 struct{ *tpm2.TPM }

func (chip20) Version() tpm.Version { return tpm.V20 }

func (c chip20) Backend(anchor []byte) (seal.Backend, error) { return seal.OpenTPM2(c.TPM, anchor) }

// Provision defines a counter; what moves it is the owner's password itself.
func (c chip20) Provision(owner []byte) (seal.Backend, []byte, error) {
	b, err := seal.ProvisionTPM2(c.TPM, owner)
	if err != nil {
		return nil, nil, err
	}
	return b, append([]byte(nil), owner...), nil
}

// ProvisionMore needs the owner's password, which is the credential.
func (c chip20) ProvisionMore(credential []byte) (seal.Backend, []byte, error) {
	return c.Provision(credential)
}

func (c chip20) Provisioned() (bool, error) { return c.HasCounters() }

func (c chip20) Guesses() (Guesses, error) {
	l, err := c.Lockout()
	return Guesses{Left: l.Left(), Wait: l.Recovery, Lock: l.Left() == 0}, err
}

func (c chip20) Describe() (string, error) {
	maker, err := c.Manufacturer()
	return fmt.Sprintf("%s by %s", tpm.V20, maker), err
}
