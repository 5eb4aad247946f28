package aem

import (
	"fmt"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
	"github.com/antievilmaid/aem/tpm2"
)

// NewChip is the TPM of a family behind a channel.
func NewChip(ch tpm.Channel, v tpm.Version) (Chip, error) {
	switch v {
	case tpm.V12:
		return chip12{tpm12.New(ch)}, nil
	case tpm.V20:
		return chip20{tpm2.New(ch)}, nil
	}
	return nil, fmt.Errorf("there is no TPM family %s", v)
}
