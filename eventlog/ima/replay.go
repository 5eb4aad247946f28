package ima

import (
	"github.com/antievilmaid/aem/tpm"
)

// Replay folds entries into the PCRs that they were extended into.
//
// Kernels since 5.8 extend each bank with the bank's own digest of the template
// data. Older ones extend the SHA-1 digest, padded with zeros, into the other
// banks; such a bank proves no more than SHA-1 does. Both are computed, and the
// TPM decides which one the machine's kernel did.
type Replay struct {
	Own, Padded tpm.Banks
	Used        tpm.PCRs
	Entries     int
	Violations  int
	// Untrue counts the entries whose digest is not that of their data. The first is kept.
	Untrue      int
	FirstUntrue int
	// Missing counts the entries that could not be folded into every bank: a text
	// does not give the data of all templates.
	Missing int
	// First and Last are the boot aggregates at the beginning and the latest one,
	// which a kexec adds.
	First, Last *Aggregate
	algs        []tpm.Alg
}

// NewReplay begins with PCRs as a TPM has them after its start: zeros.
func NewReplay(algs ...tpm.Alg) *Replay {
	r := &Replay{algs: algs}
	for _, a := range algs {
		b := tpm.Bank{Alg: a}
		b.Reset(1<<tpm.NumPCRs-1, true)
		p := tpm.Bank{Alg: a}
		p.Reset(1<<tpm.NumPCRs-1, true)
		r.Own, r.Padded = append(r.Own, b), append(r.Padded, p)
	}
	return r
}

// Add folds one entry in.
func (r *Replay) Add(e *Entry) error {
	if !e.True() {
		if r.Untrue == 0 {
			r.FirstUntrue = r.Entries
		}
		r.Untrue++
	}
	violation := e.Violation()
	if violation {
		r.Violations++
	}
	if e.File() == "boot_aggregate" {
		if _, alg, d := e.FileDigest(); alg != 0 {
			r.Last = &Aggregate{alg, append(tpm.Digest(nil), d...)}
			if r.First == nil {
				r.First = r.Last
			}
		}
	}
	r.Entries++
	r.Used |= tpm.PCRSet(e.PCR)
	if e.Data == nil && !violation {
		r.Missing++
	}
	for i, a := range r.algs {
		own, padded := ones(a), ones(a)
		if !violation {
			clear(padded)
			switch {
			case e.Data != nil:
				own = a.Sum(e.Data)
				copy(padded, tpm.SHA1.Sum(e.Data))
			case len(e.Digest) == a.Size():
				own = e.Digest
				copy(padded, e.Digest)
			default: // a text without all data: only the bank of its own width is known
				continue
			}
		}
		if err := r.Own[i].Extend(e.PCR, own); err != nil {
			return err
		}
		if err := r.Padded[i].Extend(e.PCR, padded); err != nil {
			return err
		}
	}
	return nil
}

func ones(a tpm.Alg) tpm.Digest {
	d := make(tpm.Digest, a.Size())
	for i := range d {
		d[i] = 0xff
	}
	return d
}

// Match says how the replay explains a PCR of a bank.
type Match uint8

// The ways. The zero Match explains nothing.
const (
	NoMatch     Match = iota
	MatchOwn          // each bank was extended with its own digests
	MatchPadded       // SHA-1 digests, padded with zeros: a kernel before 5.8
)

// String is "mismatch", "match" or "match (padded SHA-1)".
func (m Match) String() string {
	switch m {
	case MatchOwn:
		return "match"
	case MatchPadded:
		return "match (padded SHA-1)"
	}
	return "MISMATCH"
}

// Explains compares the replay with what a TPM holds.
func (r *Replay) Explains(a tpm.Alg, p tpm.PCR, actual tpm.Digest) Match {
	switch {
	case actual == nil:
		return NoMatch
	case actual.Equal(r.Own.Value(a, p)):
		return MatchOwn
	case actual.Equal(r.Padded.Value(a, p)):
		return MatchPadded
	}
	return NoMatch
}

// Aggregate is a boot_aggregate: the digest by which a list is tied to the boot
// that it belongs to.
type Aggregate struct {
	Alg    tpm.Alg
	Digest tpm.Digest
}

// Covers tells which PCRs, 0 up to and including last, the aggregate was made of:
// 7 for SHA-1 and for kernels before 5.8, 9 for newer ones. ok is false where
// neither leads to it: the list belongs to another boot. An aggregate of zeros was
// made without a TPM.
func (a *Aggregate) Covers(actual tpm.Banks) (last tpm.PCR, ok bool) {
	for _, last := range []tpm.PCR{7, 9} {
		var all []byte
		whole := true
		for p := range last + 1 {
			v := actual.Value(a.Alg, p)
			whole = whole && v != nil
			all = append(all, v...)
		}
		if whole && a.Digest.Equal(a.Alg.Sum(all)) {
			return last, true
		}
	}
	return 0, false
}
