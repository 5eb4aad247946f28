package tpm12

import "fmt"

// Random asks the TPM for n random bytes, as often as it takes (Part 3, clause 13.6). The answers are in clear
// on the bus, so that they serve only to be mixed with others'.
func (t *TPM) Random(n int) ([]byte, error) {
	var b []byte
	for len(b) < n {
		rsp, err := t.send(ordGetRandom, 0, u32(uint32(min(n-len(b), 32))))
		if err != nil {
			return nil, err
		}
		r := reader{b: rsp}
		more := r.sized()
		if err := r.done("random bytes"); err != nil {
			return nil, err
		}
		if len(more) == 0 {
			return nil, fmt.Errorf("the TPM gave %d random bytes, and %d were asked for", len(b), n)
		}
		b = append(b, more...)
	}
	return b[:n], nil
}
