package tpm_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/antievilmaid/aem/tpm"
)

func TestAlgKeepsAllSixteenBits(t *testing.T) {
	if a := tpm.Alg(0x010b); a.Available() || a.Size() != 0 || a.String() != "alg_0x010b" {
		t.Errorf("0x010b was taken for a known algorithm: %s, %d bytes", a, a.Size())
	}
}

func TestAlgNamesAndSizesAgreeWithTheHashes(t *testing.T) {
	for _, a := range []tpm.Alg{tpm.SHA1, tpm.SHA256, tpm.SHA384, tpm.SHA512, tpm.SHA3256, tpm.SHA3384, tpm.SHA3512} {
		if got := a.New().Size(); got != a.Size() {
			t.Errorf("%s: the hash has %d bytes, the table says %d", a, got, a.Size())
		}
		if back, err := tpm.ParseAlg(a.String()); err != nil || back != a {
			t.Errorf("ParseAlg(%q) = %v, %v", a.String(), back, err)
		}
	}
}

func TestAbsentDigestsEqualNothing(t *testing.T) {
	var absent tpm.Digest
	if absent.Equal(absent) {
		t.Error("two unknown digests count as equal")
	}
	if absent.All(0) {
		t.Error("an unknown digest counts as all zero")
	}
}

func TestParsePCRs(t *testing.T) {
	for in, want := range map[string]string{"13,17,18": "13,17,18", "0-3,17": "0,1,2,3,17", " 5 ": "5"} {
		got, err := tpm.ParsePCRs(in)
		if err != nil || got.String() != want {
			t.Errorf("ParsePCRs(%q) = %s, %v; want %s", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "24", "3-1", "-", "1,,2", "0-99999999999", "x"} {
		if got, err := tpm.ParsePCRs(bad); err == nil {
			t.Errorf("ParsePCRs(%q) = %s, without an error", bad, got)
		}
	}
}

func TestPCRSetIgnoresWhatNoTPMHas(t *testing.T) {
	s := tpm.PCRSet(17, 255, 0xffffffff, 13)
	if got := slices.Collect(s.All()); !slices.Equal(got, []tpm.PCR{13, 17}) {
		t.Errorf("the set holds %v", got)
	}
	if s.Has(255) {
		t.Error("PCR 255 is said to be in the set")
	}
}

func TestBankStartsAndExtendsAsATPMDoes(t *testing.T) {
	b := tpm.Bank{Alg: tpm.SHA1}
	b.Reset(tpm.PCRSet(0, 17), false)
	if !b.Values[0].All(0) || !b.Values[17].All(0xff) {
		t.Fatalf("before a launch: PCR 0 %s, PCR 17 %s", b.Values[0], b.Values[17])
	}
	b.Reset(tpm.PCRSet(17), true)
	// The value that swtpm has after the hash sequence over "SLB-image-" and "bytes" was read from a
	// TPM; here only the arithmetic is checked, against its definition.
	d := tpm.SHA1.Sum([]byte("launched image"))
	want := tpm.SHA1.Sum(bytes.Repeat([]byte{0}, 20), d)
	if err := b.Extend(17, d); err != nil || !b.Values[17].Equal(want) {
		t.Errorf("after the extend: %s, %v; want %s", b.Values[17], err, want)
	}
	for name, err := range map[string]error{
		"a PCR that was never read": b.Extend(5, d),
		"a digest of another size":  b.Extend(17, make([]byte, 32)),
		"a PCR that no TPM has":     b.Extend(24, d),
	} {
		if err == nil {
			t.Errorf("%s was extended", name)
		}
	}
}

func TestCloneIsIndependent(t *testing.T) {
	bs := tpm.Banks{{Alg: tpm.SHA256}}
	bs[0].Reset(tpm.PCRSet(17), true)
	c := bs.Clone()
	if err := c[0].Extend(17, tpm.SHA256.Sum(nil)); err != nil {
		t.Fatal(err)
	}
	if !bs.Value(tpm.SHA256, 17).All(0) {
		t.Error("extending a clone changed the original")
	}
}
