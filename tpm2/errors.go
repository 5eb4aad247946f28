package tpm2

import (
	"errors"

	gotpm "github.com/google/go-tpm/tpm2"
)

// What a caller decides on. The TPM's own return code stays reachable through errors.As.
var (
	// ErrOtherFamily: a TPM 1.2 answered.
	ErrOtherFamily = errors.New("the chip answers as a TPM 1.2, not as a TPM 2.0")
	// ErrNoKey: the persistent handle holds no key.
	ErrNoKey = errors.New("the TPM holds no key at this handle")
	// ErrOtherKey: the key at the handle is not the one whose Name was asked for.
	ErrOtherKey = errors.New("the TPM holds another key at this handle")
	// ErrNoCounter: the NV index does not exist.
	ErrNoCounter = errors.New("the TPM holds no such counter")
	// ErrPolicy: the policy of an object is not satisfied.
	ErrPolicy = errors.New("the object's policy is not satisfied")
	// ErrStale: the counter does not hold the value that the policy demands.
	ErrStale = errors.New("the counter has moved on from the value that the policy demands")
	// ErrAuth: the PIN is wrong.
	ErrAuth = errors.New("the PIN is wrong")
	// ErrLockout: too many wrong PINs; the TPM refuses more for a while.
	ErrLockout = errors.New("the TPM refuses PINs for a while, after too many wrong ones")
	// ErrIntegrity: the object was damaged, or made by another TPM.
	ErrIntegrity = errors.New("the sealed object is damaged, or was made by another TPM")
	// ErrOwnerAuth: the owner's authorisation is needed and was not right.
	ErrOwnerAuth = errors.New("the TPM's owner password is needed")
)

// classify adds to a refusal of the TPM the error that a caller decides on.
func classify(err error, table map[gotpm.TPMRC]error) error {
	for rc, meaning := range table {
		if errors.Is(err, rc) {
			return errors.Join(meaning, err)
		}
	}
	return err
}
