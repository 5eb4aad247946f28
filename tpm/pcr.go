package tpm

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"iter"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// NumPCRs is how many PCRs a PC client's TPM has (PC Client Platform TPM
// Profile, clause 4.6). Logs may name others (255, 0xffffffff); those belong to
// no register and are never replayed.
const NumPCRs = 24

// PCR is the index of a platform configuration register.
type PCR uint32

// The PCRs that this project gives a meaning to.
const (
	// PCRHost holds what the measured initramfs adds: LUKS headers before the
	// secret is opened, the cap after it was shown. It can be extended from
	// locality 0 and reset only by a restart.
	PCRHost PCR = 13
	// PCRCode holds the dynamic launch and the code that it started.
	PCRCode PCR = 17
	// PCRData holds the data that the launched code depends on.
	PCRData PCR = 18
)

// Dynamic reports whether the PCR belongs to the dynamic launch (17 to 22): it
// starts as all ones, and only the CPU's launch sets it to zero.
func (p PCR) Dynamic() bool { return p >= 17 && p <= 22 }

// Digest is the value of a hash, or of a PCR.
type Digest []byte

// String is lower-case hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d) }

// Equal reports whether both hold the same bytes. An absent digest (nil) equals
// nothing, not even another absent one, so that "unknown" never counts as a match.
func (d Digest) Equal(o Digest) bool { return d != nil && o != nil && bytes.Equal(d, o) }

// All reports whether every byte of a digest that is present is b.
func (d Digest) All(b byte) bool {
	return len(d) > 0 && bytes.Count(d, []byte{b}) == len(d)
}

// PCRs is a set of PCR indices.
type PCRs uint32

// PCRSet makes a set. Indices that no TPM has are left out.
func PCRSet(list ...PCR) PCRs {
	var s PCRs
	for _, p := range list {
		if p < NumPCRs {
			s |= 1 << p
		}
	}
	return s
}

// Has reports whether p is in the set.
func (s PCRs) Has(p PCR) bool { return p < NumPCRs && s&(1<<p) != 0 }

// Len is the number of PCRs in the set.
func (s PCRs) Len() int { return bits.OnesCount32(uint32(s)) }

// All yields the members in ascending order, the order in which both families
// concatenate PCR values before hashing them.
func (s PCRs) All() iter.Seq[PCR] {
	return func(yield func(PCR) bool) {
		for p := PCR(0); p < NumPCRs; p++ {
			if s.Has(p) && !yield(p) {
				return
			}
		}
	}
}

// String is a comma-separated list, such as 13,17,18.
func (s PCRs) String() string {
	var l []string
	for p := range s.All() {
		l = append(l, strconv.Itoa(int(p)))
	}
	return strings.Join(l, ",")
}

// ParsePCRs reads a list of indices and ranges, such as 0-7,13,17.
func ParsePCRs(s string) (PCRs, error) {
	var set PCRs
	for part := range strings.SplitSeq(s, ",") {
		lo, hi, isRange := strings.Cut(strings.TrimSpace(part), "-")
		first, err := strconv.ParseUint(lo, 10, 32)
		last := first
		if err == nil && isRange {
			last, err = strconv.ParseUint(hi, 10, 32)
		}
		if err != nil || first > last || last >= NumPCRs {
			return 0, fmt.Errorf("%q is not a PCR or a range of PCRs; they go from 0 to %d", part, NumPCRs-1)
		}
		for p := first; p <= last; p++ {
			set |= 1 << p
		}
	}
	return set, nil
}

// Bank holds the PCRs' values in one algorithm. A nil entry was not read.
type Bank struct {
	Alg    Alg
	Values [NumPCRs]Digest
}

// Extend folds d into a PCR as the TPM does: new = H(old || d).
func (b *Bank) Extend(p PCR, d Digest) error {
	if p >= NumPCRs {
		return fmt.Errorf("there is no PCR %d", p)
	}
	h := b.Alg.New()
	switch {
	case h == nil:
		return fmt.Errorf("%s can't be computed here", b.Alg)
	case b.Values[p] == nil:
		return fmt.Errorf("the %s value of PCR %d is not known", b.Alg, p)
	case len(d) != b.Alg.Size():
		return fmt.Errorf("a digest of %d bytes can't be extended into the %s bank", len(d), b.Alg)
	}
	h.Write(b.Values[p])
	h.Write(d)
	b.Values[p] = h.Sum(nil)
	return nil
}

// Reset gives every PCR of the set the value that it has after the TPM's
// start: zeros, or ones for the dynamic PCRs when no dynamic launch took place.
func (b *Bank) Reset(set PCRs, launched bool) {
	for p := range set.All() {
		fill := byte(0)
		if p.Dynamic() && !launched {
			fill = 0xff
		}
		b.Values[p] = bytes.Repeat([]byte{fill}, b.Alg.Size())
	}
}

// Banks is one Bank for each algorithm, in the TPM's or the log's order.
type Banks []Bank

// Bank returns the bank of an algorithm, or nil.
func (bs Banks) Bank(a Alg) *Bank {
	for i := range bs {
		if bs[i].Alg == a {
			return &bs[i]
		}
	}
	return nil
}

// Value returns a PCR's value in a bank, or nil where it is not known.
func (bs Banks) Value(a Alg, p PCR) Digest {
	if b := bs.Bank(a); b != nil && p < NumPCRs {
		return b.Values[p]
	}
	return nil
}

// Algs lists the banks' algorithms.
func (bs Banks) Algs() []Alg {
	l := make([]Alg, len(bs))
	for i := range bs {
		l[i] = bs[i].Alg
	}
	return l
}

// Clone returns a copy that can be extended without changing the original.
func (bs Banks) Clone() Banks {
	// Extend replaces a digest and never writes into it, so the digests themselves may be shared.
	return slices.Clone(bs)
}

// TaggedDigest is a digest with the algorithm that made it (TPMT_HA).
type TaggedDigest struct {
	Alg    Alg
	Digest Digest
}

// SumAll hashes data once for each algorithm that is available; the others are left
// out. Large data are hashed in all of them at the same time.
func SumAll(algs []Alg, data ...[]byte) []TaggedDigest {
	var known []Alg
	for _, a := range algs {
		if a.Available() {
			known = append(known, a)
		}
	}
	size := 0
	var readers []io.Reader
	for _, d := range data {
		size += len(d)
		readers = append(readers, bytes.NewReader(d))
	}
	const large = 1 << 20
	if size >= large && len(known) > 1 {
		if l, err := SumReader(known, io.MultiReader(readers...)); err == nil {
			return l // reading from memory gives no error
		}
	}
	var l []TaggedDigest
	for _, a := range known {
		l = append(l, TaggedDigest{a, a.Sum(data...)})
	}
	return l
}

// Find returns the digest of an algorithm in a list, or nil.
func Find(list []TaggedDigest, a Alg) Digest {
	for i := range list {
		if list[i].Alg == a {
			return list[i].Digest
		}
	}
	return nil
}
