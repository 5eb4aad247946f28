package tpm2

import (
	"fmt"

	gotpm "github.com/google/go-tpm/tpm2"
)

// Random asks the TPM for n random bytes, as often as it takes: a TPM gives no more at once than its longest
// digest has. The answers are in clear on the bus, so that they serve only to be mixed with others'.
func (t *TPM) Random(n int) ([]byte, error) {
	var b []byte
	for len(b) < n {
		rsp, err := run(t, "TPM2_GetRandom", gotpm.GetRandom{BytesRequested: uint16(min(n-len(b), 32))})
		if err != nil {
			return nil, err
		}
		if len(rsp.RandomBytes.Buffer) == 0 {
			return nil, fmt.Errorf("the TPM gave %d random bytes, and %d were asked for", len(b), n)
		}
		b = append(b, rsp.RandomBytes.Buffer...)
	}
	return b[:n], nil
}
