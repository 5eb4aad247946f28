package tpm12

import (
	"fmt"
	"strings"
	"time"
)

// What TPM_GetCapability is asked for (Part 2, clauses 21.1 and 21.2).
const (
	capProperty      = 0x05
	capNVList        = 0x0d
	capNVIndex       = 0x11
	capDALogic       = 0x19
	capFlag          = 0x04
	flagPermanent    = 0x108
	propManufacturer = 0x103
	propOwner        = 0x111
)

// capability asks for one thing and returns what the TPM says of it.
func (t *TPM) capability(area uint32, sub []byte) ([]byte, error) {
	rsp, err := t.send(ordGetCapability, 0, u32(area), sized(sub))
	if err != nil {
		return nil, err
	}
	r := reader{b: rsp}
	out := r.sized()
	return out, r.done("a capability")
}

// Owned reports whether the TPM has an owner, and with it a storage root key.
func (t *TPM) Owned() (bool, error) {
	b, err := t.capability(capProperty, u32(propOwner))
	if err != nil {
		return false, fmt.Errorf("ask whether the TPM has an owner: %w", err)
	}
	r := reader{b: b}
	owned := r.u8()
	if err := r.done("a yes or no"); err != nil {
		return false, fmt.Errorf("ask whether the TPM has an owner: %w", err)
	}
	return owned != 0, nil
}

// Manufacturer is the maker's four letters, such as IFX or STM. What is neither
// letter nor digit is left out: the name is shown to people, and the chip is
// nobody's friend yet.
func (t *TPM) Manufacturer() (string, error) {
	b, err := t.capability(capProperty, u32(propManufacturer))
	if err != nil {
		return "", fmt.Errorf("ask for the TPM's manufacturer: %w", err)
	}
	r := reader{b: b}
	name := r.take(4)
	if err := r.done("a manufacturer"); err != nil {
		return "", fmt.Errorf("ask for the TPM's manufacturer: %w", err)
	}
	return strings.Map(func(c rune) rune {
		if '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' {
			return c
		}
		return -1
	}, string(name)), nil
}

// Defence is the state of the TPM's defence against guessing (dictionary attack
// logic; Part 1, clause 32).
type Defence struct {
	Locked  bool          // authorisation is refused now, be it right or wrong
	Failed  uint32        // wrong tries that count at present
	Allowed uint32        // how many lock the TPM; 0 where it does not tell
	Wait    time.Duration // how long a lock lasts; 0 where there is none or the TPM does not tell
}

const (
	tagDAInfo        = 0x0037
	tagDAInfoLimited = 0x0038
	tagDAAction      = 0x0039
	daActionTimeout  = 1 // TPM_DA_ACTION_TIMEOUT: the lock ends by itself
)

// Defence asks for the state of the defence around the storage root key, and
// so around what is sealed under it. It costs no try. The capability is
// optional: a chip without it gives [ErrBadMode].
func (t *TPM) Defence() (Defence, error) {
	b, err := t.capability(capDALogic, u16(entitySRK))
	if err != nil {
		return Defence{}, fmt.Errorf("ask for the state of the TPM's defence: %w", err)
	}
	d, err := parseDefence(b)
	if err != nil {
		return Defence{}, fmt.Errorf("ask for the state of the TPM's defence: %w", err)
	}
	return d, nil
}

// parseDefence reads a TPM_DA_INFO or, from a chip that keeps the numbers to
// itself, a TPM_DA_INFO_LIMITED (Part 2, clauses 21.7 to 21.10).
func parseDefence(b []byte) (Defence, error) {
	r := reader{b: b}
	tag := r.u16()
	d := Defence{Locked: r.u8() != 0}
	if tag == tagDAInfo {
		d.Failed, d.Allowed = uint32(r.u16()), uint32(r.u16())
	}
	actionTag, actions := r.u16(), r.u32()
	if tag == tagDAInfo {
		// The number depends on the action; only for a timeout is it seconds.
		if seconds := r.u32(); d.Locked && actions&daActionTimeout != 0 {
			d.Wait = time.Duration(seconds) * time.Second
		}
	}
	r.sized() // the vendor's own
	if tag != tagDAInfo && tag != tagDAInfoLimited || actionTag != tagDAAction {
		return Defence{}, fmt.Errorf("the TPM tells of its defence in a structure with tags %#04x and %#04x: %w",
			tag, actionTag, ErrResponse)
	}
	return d, r.done("the state of its defence")
}

// ResetLockValue ends a lock (Part 3, clause 27.1). A wrong owner password here
// closes this way out until the lock ends by itself.
func (t *TPM) ResetLockValue(owner Auth) error {
	if _, err := t.authorise(ordResetLockValue, owner); err != nil {
		return fmt.Errorf("end the TPM's lock: %w", err)
	}
	return nil
}
