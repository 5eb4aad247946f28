package tpm12

import (
	"fmt"
	"slices"
)

// Counter is a monotonic counter and the value that it had when it was asked.
// Its value never goes down; a new counter starts above all values that any
// counter of the TPM ever had (Part 1, clause 17).
//
// Nothing can be sealed to a counter on a TPM 1.2: it makes an old copy evident
// to software that looks, and to nothing else. Between two starts of the TPM
// only one counter can be incremented; a second one gives [ErrBadCounter].
type Counter struct {
	Handle uint32
	Value  uint32
}

// counterValue reads a TPM_COUNTER_VALUE (Part 2, clause 13.1).
func (r *reader) counterValue() uint32 {
	r.take(2 + 4) // the tag, which some TPMs leave empty, and the label
	return r.u32()
}

// CreateCounter makes a counter with the owner's authorisation (Part 3, clause
// 25.1). auth is what incrementing and releasing it needs. [ErrResources] says
// that the TPM has no room for another; most have four.
func (t *TPM) CreateCounter(owner, auth Auth, label [4]byte) (Counter, error) {
	s, err := t.osap(entityOwner, handleOwner, owner)
	if err != nil {
		return Counter{}, fmt.Errorf("make a counter: %w", err)
	}
	rsp, err := t.run(ordCreateCounter, nil, slices.Concat(s.encrypt(auth), label[:]), s)
	if err != nil {
		return Counter{}, fmt.Errorf("make a counter: %w", err)
	}
	r := reader{b: rsp}
	c := Counter{Handle: r.u32(), Value: r.counterValue()}
	if err := r.done("a counter"); err != nil {
		return Counter{}, fmt.Errorf("make a counter: %w", err)
	}
	return c, nil
}

// IncrementCounter counts up by one and returns the new value, authenticated by
// the counter's authorisation value (Part 3, clause 25.2).
func (t *TPM) IncrementCounter(handle uint32, auth Auth) (Counter, error) {
	rsp, err := t.authorise(ordIncrementCounter, auth, u32(handle))
	return readCounter("increment", handle, rsp, err)
}

// ReadCounter reads a counter. Anyone may, and the answer is not authenticated.
func (t *TPM) ReadCounter(handle uint32) (Counter, error) {
	rsp, err := t.send(ordReadCounter, 0, u32(handle))
	return readCounter("read", handle, rsp, err)
}

func readCounter(verb string, handle uint32, rsp []byte, err error) (Counter, error) {
	r := reader{b: rsp}
	c := Counter{Handle: handle, Value: r.counterValue()}
	if err == nil {
		err = r.done("a counter")
	}
	if err != nil {
		return Counter{}, fmt.Errorf("%s counter %d: %w", verb, handle, err)
	}
	return c, nil
}

// ReleaseCounter deletes a counter (Part 3, clause 25.4).
func (t *TPM) ReleaseCounter(handle uint32, auth Auth) error {
	if _, err := t.authorise(ordReleaseCounter, auth, u32(handle)); err != nil {
		return fmt.Errorf("release counter %d: %w", handle, err)
	}
	return nil
}
