package aem

import (
	"bytes"
	"fmt"

	"github.com/antievilmaid/aem/internal/totp"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
	"github.com/antievilmaid/aem/tpm2"
)

// chip12 is a TPM 1.2.
type chip12 struct{ *tpm12.TPM }

func (chip12) Version() tpm.Version { return tpm.V12 }

func (c chip12) Backend(anchor []byte) (seal.Backend, error) { return seal.OpenTPM12(c.TPM, anchor) }

// Provision takes a TPM without an owner into ownership.
func (c chip12) Provision(owner []byte) (seal.Backend, []byte, error) {
	b, credential, err := seal.ProvisionTPM12(c.TPM, owner)
	if err != nil {
		return nil, nil, err
	}
	return b, credential.Bytes(), nil
}

func (c chip12) ProvisionMore(credential []byte) (seal.Backend, []byte, error) {
	b, more, err := seal.ProvisionMoreTPM12(c.TPM, credential)
	if err != nil {
		return nil, nil, err
	}
	return b, more.Bytes(), nil
}

func (c chip12) Provisioned() (bool, error) { return seal.ProvisionedTPM12(c.TPM) }

// SwitchedOff has nothing to ask: a TPM 1.2 that is deactivated says so to each command.
func (chip12) SwitchedOff() (bool, error) { return false, nil }

func (c chip12) Guesses() (Guesses, error) {
	d, err := c.Defence()
	g := Guesses{Wait: d.Wait, Lock: d.Locked}
	if d.Allowed > d.Failed {
		g.Left = d.Allowed - d.Failed
	}
	return g, err
}

// HoldCodeKey gives the key itself: the family computes no HMACs.
func (chip12) HoldCodeKey(_ []byte, _ tpm.Alg, key []byte) ([]byte, error) {
	return bytes.Clone(key), nil
}

func (chip12) CodeMAC(held []byte, alg tpm.Alg) (totp.MAC, error) {
	return totp.InMemory(held, alg), nil
}

// Clock says that there is none: a TPM 1.2's ticks begin anew with each start.
func (chip12) Clock() (tpm2.Clock, bool, error) { return tpm2.Clock{}, false, nil }

func (c chip12) Describe() (string, error) {
	maker, err := c.Manufacturer()
	return fmt.Sprintf("%s by %s", tpm.V12, maker), err
}
