package drtm_test

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
)

// chip is an emulated TPM of either family.
type chip struct {
	*swtpm.TPM
	v tpm.Version
}

func (c chip) extend(t *testing.T, m drtm.Measurement) {
	t.Helper()
	if err := c.SetLocality(m.Locality); err != nil {
		t.Fatal(err)
	}
	if c.v == tpm.V20 {
		if err := tpm2.New(c).Extend(m.PCR, m.Digests); err != nil {
			t.Fatalf("%s: %v", m.Role, err)
		}
		return
	}
	c.command12(t, 0x14, m.PCR, tpm.Find(m.Digests, tpm.SHA1))
}

func (c chip) read(t *testing.T) tpm.Banks {
	t.Helper()
	set := tpm.PCRSet(17, 18, 19, 20, 21, 22)
	if c.v == tpm.V20 {
		banks, err := tpm2.New(c).ReadPCRs(set)
		if err != nil {
			t.Fatal(err)
		}
		return banks
	}
	b := tpm.Bank{Alg: tpm.SHA1}
	for p := range set.All() {
		b.Values[p] = c.command12(t, 0x15, p, nil)
	}
	return tpm.Banks{b}
}

// command12 is TPM_Extend or TPM_PCRRead: both answer with a digest.
func (c chip) command12(t *testing.T, ordinal uint32, p tpm.PCR, digest []byte) tpm.Digest {
	t.Helper()
	cmd := binary.BigEndian.AppendUint32([]byte{0, 0xc1}, uint32(14+len(digest)))
	cmd = binary.BigEndian.AppendUint32(cmd, ordinal)
	cmd = append(binary.BigEndian.AppendUint32(cmd, uint32(p)), digest...)
	rsp, err := c.Send(cmd)
	if err != nil || len(rsp) != 30 || binary.BigEndian.Uint32(rsp[6:]) != 0 {
		t.Fatalf("ordinal %#x, PCR %d: %x, %v", ordinal, p, rsp, err)
	}
	return rsp[10:]
}

// The whole claim, on a TPM: a real hash sequence and real extends leave what
// was predicted, and the log proves it. Before the launch, and with extends but
// no launch, it does not.
func TestPredictionLogAndTPMAgree(t *testing.T) {
	each(t, func(t *testing.T, p drtm.Platform, v tpm.Version) {
		c, _ := testbed.NewTPM(t, v)
		ch := chip{c, v}
		l := launch(p, v)
		if v == tpm.V20 {
			algs, err := tpm2.New(c).PCRBanks()
			if err != nil {
				t.Fatal(err)
			}
			l.Algs = algs
		}
		log := written(t, l)
		if got := drtm.Check(log, ch.read(t)); got.State != drtm.NotLaunched {
			t.Errorf("before the launch: %s: %s", got.State, got.Reason)
		}

		extendAll := func() {
			for _, m := range measurements(t, l) {
				if m.Extended() && !m.ByCPU() {
					ch.extend(t, m)
				}
			}
		}
		extendAll()
		if got := drtm.Check(log, ch.read(t)); got.State != drtm.NotLaunched {
			t.Errorf("with extends and no launch: %s: %s", got.State, got.Reason)
		}

		if err := c.Launch(l.LaunchData()); err != nil {
			t.Fatal(err)
		}
		extendAll()
		actual := ch.read(t)
		if diff := cmp.Diff(values(predict(t, l)), values(actual)); diff != "" {
			t.Errorf("the TPM holds something else (-predicted +TPM)\n%s", diff)
		}
		if got := drtm.Check(log, actual); got.State != drtm.Verified {
			t.Errorf("after the launch: %s: %s", got.State, got.Reason)
		}
	})
}
