package tpm12

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/antievilmaid/aem/tpm"
)

// TPM sends TPM 1.2 commands over a channel.
type TPM struct {
	ch tpm.Channel
}

// New returns a TPM over a channel. Nothing is sent.
func New(ch tpm.Channel) *TPM { return &TPM{ch} }

// The tags say how many authorisation sessions a message carries (Part 2, clause 6.1).
const (
	tagCommand  = 0x00c1 // plus the number of sessions
	tagResponse = 0x00c4 // plus the number of sessions
	headerSize  = 10
	maxCommand  = 4096 // no TPM takes more, and no command here comes near
)

// The commands (Part 2, clause 17).
const (
	ordOIAP             = 0x0a
	ordOSAP             = 0x0b
	ordTakeOwnership    = 0x0d
	ordExtend           = 0x14
	ordPCRRead          = 0x15
	ordSeal             = 0x17
	ordUnseal           = 0x18
	ordResetLockValue   = 0x40
	ordGetRandom        = 0x46
	ordContinueSelfTest = 0x53
	ordOwnerClear       = 0x5b
	ordGetCapability    = 0x65
	ordReadPubek        = 0x7c
	ordOwnerReadPub     = 0x81
	ordFlushSpecific    = 0xba
	ordNVDefine         = 0xcc
	ordNVWrite          = 0xcd
	ordNVWriteAuth      = 0xce
	ordNVRead           = 0xcf
	ordNVReadAuth       = 0xd0
	ordCreateCounter    = 0xdc
	ordIncrementCounter = 0xdd
	ordReadCounter      = 0xde
	ordReleaseCounter   = 0xdf
)

// commandNames are what errors call the commands.
var commandNames = map[uint32]string{
	ordOIAP: "TPM_OIAP", ordOSAP: "TPM_OSAP", ordTakeOwnership: "TPM_TakeOwnership",
	ordExtend: "TPM_Extend", ordPCRRead: "TPM_PCRRead", ordSeal: "TPM_Seal", ordUnseal: "TPM_Unseal",
	ordResetLockValue: "TPM_ResetLockValue", ordContinueSelfTest: "TPM_ContinueSelfTest",
	ordGetRandom: "TPM_GetRandom", ordOwnerClear: "TPM_OwnerClear", ordGetCapability: "TPM_GetCapability", ordReadPubek: "TPM_ReadPubek",
	ordOwnerReadPub: "TPM_OwnerReadInternalPub", ordFlushSpecific: "TPM_FlushSpecific",
	ordNVDefine: "TPM_NV_DefineSpace", ordNVWrite: "TPM_NV_WriteValue", ordNVWriteAuth: "TPM_NV_WriteValueAuth",
	ordNVRead: "TPM_NV_ReadValue", ordNVReadAuth: "TPM_NV_ReadValueAuth", ordCreateCounter: "TPM_CreateCounter",
	ordIncrementCounter: "TPM_IncrementCounter", ordReadCounter: "TPM_ReadCounter", ordReleaseCounter: "TPM_ReleaseCounter",
}

func u16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
func u32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// sized is bytes with their 32-bit length before them.
func sized(b []byte) []byte { return slices.Concat(u32(uint32(len(b))), b) }

// A TPM that tests itself, or is busy, refuses a command without executing it.
// The pauses double; together they stay under three seconds.
const firstPause, pauses = 5 * time.Millisecond, 9

// send sends a command with the given number of sessions and returns the body of
// a successful answer. The body of the command is wiped, because it may hold a
// secret.
func (t *TPM) send(ord uint32, sessions int, parts ...[]byte) ([]byte, error) {
	body := slices.Concat(parts...)
	defer clear(body)
	size := headerSize + len(body)
	if size > maxCommand {
		return nil, fmt.Errorf("%s: a command of %d bytes is longer than any TPM takes", commandNames[ord], size)
	}
	cmd := slices.Concat(u16(uint16(tagCommand+sessions)), u32(uint32(size)), u32(ord), body)
	defer clear(cmd)
	for i := 0; ; i++ {
		rsp, err := t.ch.Send(cmd)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", commandNames[ord], err)
		}
		out, err := checkFrame(rsp, sessions)
		switch {
		case err == nil:
			return out, nil
		case i < pauses && errors.Is(err, errNeedsSelfTest) && ord != ordContinueSelfTest:
			if _, err := t.send(ordContinueSelfTest, 0); err != nil {
				return nil, err
			}
		case i < pauses && (errors.Is(err, errRetry) || errors.Is(err, errDoingSelfTest)):
			time.Sleep(firstPause << i)
		default:
			return nil, fmt.Errorf("%s: %w", commandNames[ord], err)
		}
	}
}

// checkFrame returns what follows the header of an answer. An answer that
// claims success must carry as many HMACs as the command, or else whoever sits
// between could cut them off.
func checkFrame(rsp []byte, sessions int) ([]byte, error) {
	if len(rsp) < headerSize {
		return nil, fmt.Errorf("the TPM's response has %d bytes; a response has %d at least", len(rsp), headerSize)
	}
	tag := binary.BigEndian.Uint16(rsp)
	size, code := binary.BigEndian.Uint32(rsp[2:]), Error(binary.BigEndian.Uint32(rsp[6:]))
	switch {
	case tag == 0x8001 || tag == 0x8002:
		return nil, ErrOtherFamily
	case tag == tagResponse && code == errBadTag:
		// So a TPM 2.0 answers a tag that it does not know (TPM 2.0 Library, Part 1, clause 18.9). A
		// TPM 1.2 knows the tags that are sent here.
		return nil, fmt.Errorf("%w (%w)", ErrOtherFamily, code)
	case uint64(size) != uint64(len(rsp)):
		return nil, fmt.Errorf("the TPM's response claims %d bytes and has %d", size, len(rsp))
	case code != 0:
		return nil, code
	case int(tag) != tagResponse+sessions:
		return nil, fmt.Errorf("the TPM's response has tag %#04x, not %#04x: %w", tag, tagResponse+sessions, ErrResponse)
	}
	return rsp[headerSize:], nil
}

// reader takes an answer apart. After the first read beyond its end everything
// reads as zero and done tells of it.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n uint32) []byte {
	if r.short || uint64(n) > uint64(len(r.b)) {
		r.short = true
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// sized reads bytes with their 32-bit length before them.
func (r *reader) sized() []byte { return r.take(r.u32()) }

// done reports whether the answer held exactly what was read.
func (r *reader) done(what string) error {
	if r.short || len(r.b) != 0 {
		return fmt.Errorf("the TPM's answer does not hold %s of the specified shape: %w", what, ErrResponse)
	}
	return nil
}
