package tpm12

import (
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/tpm"
)

// What a caller decides on that is no return code of a TPM 1.2.
var (
	// ErrOtherFamily: a TPM 2.0 answered.
	ErrOtherFamily = errors.New("the chip answers as a TPM 2.0, not as a TPM 1.2")
	// ErrResponse: the answer is not one that a TPM gives to this command, or its HMAC is wrong.
	ErrResponse = errors.New("the TPM's answer can't be relied on; somebody may sit between the TPM and this program")
	// ErrDefined: the NV area exists already.
	ErrDefined = errors.New("the NV area exists already")
)

// Error is a TPM_RESULT other than success (Part 2, clause 16).
type Error uint32

// The return codes that a caller decides on.
const (
	ErrAuthFail         Error = 1     // TPM_AUTHFAIL
	ErrBadIndex         Error = 2     // TPM_BADINDEX
	ErrBadParameter     Error = 3     // TPM_BAD_PARAMETER
	ErrDeactivated      Error = 6     // TPM_DEACTIVATED
	ErrDisabled         Error = 7     // TPM_DISABLED
	ErrDisabledCommand  Error = 8     // TPM_DISABLED_CMD
	ErrInvalidPCRInfo   Error = 16    // TPM_INVALID_PCR_INFO
	ErrNoSpace          Error = 17    // TPM_NOSPACE
	ErrNoSRK            Error = 18    // TPM_NOSRK
	ErrNotSealedBlob    Error = 19    // TPM_NOTSEALED_BLOB
	ErrOwnerSet         Error = 20    // TPM_OWNER_SET
	ErrResources        Error = 21    // TPM_RESOURCES
	ErrWrongPCR         Error = 24    // TPM_WRONGPCRVAL
	ErrAuth2Fail        Error = 29    // TPM_AUTH2FAIL
	ErrDecrypt          Error = 33    // TPM_DECRYPT_ERROR
	ErrNoEndorsement    Error = 35    // TPM_NO_ENDORSEMENT
	ErrBadMode          Error = 44    // TPM_BAD_MODE
	ErrNoNVPermission   Error = 56    // TPM_NO_NV_PERMISSION
	ErrAuthConflict     Error = 59    // TPM_AUTH_CONFLICT
	ErrAreaLocked       Error = 60    // TPM_AREA_LOCKED
	ErrBadLocality      Error = 61    // TPM_BAD_LOCALITY
	ErrInvalidStructure Error = 67    // TPM_INVALID_STRUCTURE
	ErrBadCounter       Error = 69    // TPM_BAD_COUNTER
	ErrDefendLock       Error = 0x803 // TPM_DEFEND_LOCK_RUNNING
)

// The codes that this package itself decides on: among them those by which a TPM
// asks for the command again, and the one by which a TPM 2.0 refuses any command
// of a TPM 1.2.
const (
	errBadParamSize   Error = 25
	errBadTag         Error = 30
	errRetry          Error = 0x800
	errNeedsSelfTest  Error = 0x801
	errDoingSelfTest  Error = 0x802
	errInvalidSession Error = 34
)

// errorTexts holds the specification's names and what they mean for whoever reads them.
var errorTexts = map[Error]struct{ name, meaning string }{
	ErrAuthFail:         {"TPM_AUTHFAIL", "the password is wrong"},
	ErrBadIndex:         {"TPM_BADINDEX", "there is no such PCR or NV area"},
	ErrBadParameter:     {"TPM_BAD_PARAMETER", "the TPM can't do this with these parameters"},
	5:                   {"TPM_CLEAR_DISABLED", "clearing the TPM needs its owner, or somebody present at the machine"},
	ErrDeactivated:      {"TPM_DEACTIVATED", "the TPM is deactivated; the firmware's setup can activate it"},
	ErrDisabled:         {"TPM_DISABLED", "the TPM is disabled; the firmware's setup can enable it"},
	ErrDisabledCommand:  {"TPM_DISABLED_CMD", "this command is disabled, as some are once the TPM has an owner"},
	9:                   {"TPM_FAIL", "the TPM could not do it and does not say why"},
	10:                  {"TPM_BAD_ORDINAL", "the TPM does not have this command"},
	11:                  {"TPM_INSTALL_DISABLED", "the firmware does not let the TPM take an owner"},
	12:                  {"TPM_INVALID_KEYHANDLE", "there is no key at this handle"},
	13:                  {"TPM_KEYNOTFOUND", "there is no such key"},
	14:                  {"TPM_INAPPROPRIATE_ENC", "the key's encryption scheme is not one that serves here"},
	ErrInvalidPCRInfo:   {"TPM_INVALID_PCR_INFO", "the TPM can't make sense of the PCRs that were named"},
	ErrNoSpace:          {"TPM_NOSPACE", "the TPM has no room left"},
	ErrNoSRK:            {"TPM_NOSRK", "the TPM has no storage root key, because it has no owner"},
	ErrNotSealedBlob:    {"TPM_NOTSEALED_BLOB", "the sealed blob is damaged, or was made by another TPM"},
	ErrOwnerSet:         {"TPM_OWNER_SET", "the TPM has an owner already"},
	ErrResources:        {"TPM_RESOURCES", "the TPM has no room for another session or key"},
	23:                  {"TPM_SIZE", "the TPM has no room left"},
	ErrWrongPCR:         {"TPM_WRONGPCRVAL", "the PCRs differ from those the data was sealed to"},
	errBadParamSize:     {"TPM_BAD_PARAM_SIZE", "the command has another length than the TPM expects"},
	28:                  {"TPM_FAILEDSELFTEST", "the TPM failed its self-test and does nothing until a restart"},
	ErrAuth2Fail:        {"TPM_AUTH2FAIL", "the password of the sealed data is wrong"},
	errBadTag:           {"TPM_BADTAG", "the TPM does not know this kind of command"},
	31:                  {"TPM_IOERROR", "the TPM could not transmit something"},
	32:                  {"TPM_ENCRYPT_ERROR", "the TPM could not encrypt something"},
	ErrDecrypt:          {"TPM_DECRYPT_ERROR", "the TPM can't decrypt this; it is damaged, or was made for another TPM"},
	errInvalidSession:   {"TPM_INVALID_AUTHHANDLE", "the session has ended already"},
	ErrNoEndorsement:    {"TPM_NO_ENDORSEMENT", "the TPM has no endorsement key"},
	36:                  {"TPM_INVALID_KEYUSAGE", "the key may not be used for this"},
	37:                  {"TPM_WRONG_ENTITYTYPE", "the session is for something else"},
	38:                  {"TPM_INVALID_POSTINIT", "the firmware did not start the TPM, or started it twice"},
	40:                  {"TPM_BAD_KEY_PROPERTY", "the TPM does not have keys of this kind"},
	43:                  {"TPM_BAD_DATASIZE", "the data has a length that the key can't handle"},
	ErrBadMode:          {"TPM_BAD_MODE", "the TPM does not offer this"},
	45:                  {"TPM_BAD_PRESENCE", "somebody has to be present at the machine, as the firmware sees it"},
	50:                  {"TPM_NOTRESETABLE", "the PCR can't be reset"},
	51:                  {"TPM_NOTLOCAL", "the PCR can't be reset from this locality"},
	ErrNoNVPermission:   {"TPM_NO_NV_PERMISSION", "the TPM does not allow this with its NV memory"},
	ErrAuthConflict:     {"TPM_AUTH_CONFLICT", "the NV area demands another kind of authorisation"},
	ErrAreaLocked:       {"TPM_AREA_LOCKED", "the NV area is locked"},
	ErrBadLocality:      {"TPM_BAD_LOCALITY", "it is not allowed from this locality"},
	62:                  {"TPM_READ_ONLY", "the NV area can't be written"},
	63:                  {"TPM_PER_NOWRITE", "the NV area names nobody who may write it"},
	65:                  {"TPM_WRITE_LOCKED", "the NV area is locked against writing"},
	66:                  {"TPM_BAD_ATTRIBUTES", "the NV area's permissions contradict each other"},
	ErrInvalidStructure: {"TPM_INVALID_STRUCTURE", "the TPM can't make sense of a structure that it was given"},
	ErrBadCounter:       {"TPM_BAD_COUNTER", "there is no such counter, or another one was incremented since the start"},
	70:                  {"TPM_NOT_FULLWRITE", "the NV area has to be written as a whole"},
	72:                  {"TPM_MAXNVWRITES", "a TPM without an owner takes no more NV writes"},
	88:                  {"TPM_BAD_HANDLE", "there is nothing at this handle"},
	errRetry:            {"TPM_RETRY", "the TPM is busy and stayed so"},
	errNeedsSelfTest:    {"TPM_NEEDS_SELFTEST", "the TPM wants to test itself and did not"},
	errDoingSelfTest:    {"TPM_DOING_SELFTEST", "the TPM tests itself and took too long"},
	ErrDefendLock:       {"TPM_DEFEND_LOCK_RUNNING", "the TPM refuses passwords for a while, after too many wrong ones"},
}

// Is makes the codes by which a TPM is too busy, or full of what others left in it, [tpm.ErrBusy].
func (e Error) Is(target error) bool {
	return target == tpm.ErrBusy && (e == errRetry || e == errDoingSelfTest || e == ErrResources)
}

// Error is the specification's name and a sentence.
func (e Error) Error() string {
	if t, ok := errorTexts[e]; ok {
		return t.name + ": " + t.meaning
	}
	return fmt.Sprintf("the TPM refused with TPM_RESULT %#x", uint32(e))
}
