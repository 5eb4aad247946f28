package seal

import "errors"

// What the one who opens a record decides on. Details are wrapped around them.
var (
	// ErrMeasurements: the machine is in none of the approved boot states.
	ErrMeasurements = errors.New("this boot is in none of the approved states")
	// ErrAuth: the PIN is wrong.
	ErrAuth = errors.New("the PIN is wrong")
	// ErrLockout: the TPM refuses PINs for a while.
	ErrLockout = errors.New("the TPM refuses PINs for a while, after too many wrong ones")
	// ErrStale: a newer record has replaced this one.
	ErrStale = errors.New("this record was replaced by a newer one")
	// ErrDamaged: the record is not as it was written.
	ErrDamaged = errors.New("the record is damaged")
	// ErrOtherTPM: the record belongs to another TPM.
	ErrOtherTPM = errors.New("this is not the TPM that the record was sealed with")
	// ErrCleared: the TPM is the right one and was cleared since.
	ErrCleared = errors.New("the TPM was cleared since the record was sealed")
	// ErrOtherFamily: the record is for the other TPM family.
	ErrOtherFamily = errors.New("the record was sealed with a TPM of the other family")
	// ErrNoRecord: the folder holds no record.
	ErrNoRecord = errors.New("nothing has been sealed here yet")
	// ErrCredential: the TPM's owner password, or the counter's, is not right.
	ErrCredential = errors.New("the TPM does not accept the owner's password")
)
