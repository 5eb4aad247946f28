package testbed_test

import (
	"encoding/binary"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// pcr17 reads PCR 17 of a TPM 1.2, or of a TPM 2.0's SHA-1 bank.
func pcr17(t *testing.T, c tpm.Channel, v tpm.Version) tpm.Digest {
	t.Helper()
	cmd := []byte{0x00, 0xc1, 0, 0, 0, 14, 0, 0, 0, 0x15, 0, 0, 0, 17}
	if v == tpm.V20 {
		cmd = []byte{0x80, 0x01, 0, 0, 0, 20, 0, 0, 1, 0x7e, 0, 0, 0, 1, 0, 4, 3, 0, 0, 2}
	}
	rsp, err := c.Send(cmd)
	if err != nil || len(rsp) < 30 || binary.BigEndian.Uint32(rsp[6:]) != 0 {
		t.Fatalf("read PCR 17: %x, %v", rsp, err)
	}
	return rsp[len(rsp)-20:]
}

// The test bed's whole claim: the emulator is launched as a CPU would launch it.
func TestLaunchIsARealOne(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V12, tpm.V20} {
		t.Run(v.String(), func(t *testing.T) {
			c, _ := testbed.NewTPM(t, v)
			if got := pcr17(t, c, v); !got.All(0xff) {
				t.Fatalf("before the launch PCR 17 is %s", got)
			}
			image := make([]byte, 5000) // more than one chunk
			if err := c.Launch(image); err != nil {
				t.Fatal(err)
			}
			want := tpm.SHA1.Sum(make([]byte, 20), tpm.SHA1.Sum(image))
			if got := pcr17(t, c, v); !got.Equal(want) {
				t.Errorf("after the launch PCR 17 is %s; want %s", got, want)
			}
			if err := testbed.PowerOn(c, v); err != nil {
				t.Fatal(err)
			}
			if got := pcr17(t, c, v); !got.All(0xff) {
				t.Errorf("after a restart PCR 17 is %s", got)
			}
		})
	}
}
