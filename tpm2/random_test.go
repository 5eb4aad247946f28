package tpm2_test

import (
	"bytes"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
	"github.com/antievilmaid/aem/tpm2"
)

// A TPM of either family gives as many bytes as it is asked for, and other ones each time.
func TestRandom(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		conn, _ := testbed.NewTPM(t, v)
		random := tpm2.New(conn).Random
		if v == tpm.V12 {
			random = tpm12.New(conn).Random
		}
		for _, n := range []int{0, 1, 32, 100} {
			a, err := random(n)
			b, more := random(n)
			if err != nil || more != nil || len(a) != n || len(b) != n || n >= 32 && bytes.Equal(a, b) {
				t.Errorf("%s, %d bytes: %x, %v; %x, %v", v, n, a, err, b, more)
			}
		}
	}
}
