package seal

import (
	"fmt"

	"github.com/antievilmaid/aem/tpm"
)

// MaxStates is how many boot states a record can approve.
const MaxStates = 8

// State is one approved boot state.
type State struct {
	// Label says to a person which state this is, such as a kernel's version.
	Label string
	// PCRs are the registers that count.
	PCRs tpm.PCRs
	// Values holds their values in each bank that counts.
	Values tpm.Banks
	// Measured are the measurements that lead to these values, in their order, to
	// explain a difference by. It may be empty.
	Measured []Measurement
}

// Measurement is what one step of an approved boot measured. Its name was given
// when the state was approved, so unlike the text in an event log it can be
// believed once the record has opened.
type Measurement struct {
	Name    string
	PCR     tpm.PCR
	Digests []tpm.TaggedDigest // one for each bank of the state, in their order
}

// Match reports whether the values read from a TPM are those of the state, in
// every bank of the state.
func (s *State) Match(actual tpm.Banks) bool {
	for i := range s.Values {
		for p := range s.PCRs.All() {
			if !s.Values[i].Values[p].Equal(actual.Value(s.Values[i].Alg, p)) {
				return false
			}
		}
	}
	return len(s.Values) > 0
}

// Differing returns the PCRs whose values are not those of the state in some bank.
func (s *State) Differing(actual tpm.Banks) tpm.PCRs {
	var set tpm.PCRs
	for i := range s.Values {
		for p := range s.PCRs.All() {
			if !s.Values[i].Values[p].Equal(actual.Value(s.Values[i].Alg, p)) {
				set |= tpm.PCRSet(p)
			}
		}
	}
	return set
}

// check refuses a state that no machine can be meant to be in.
func (s *State) check() error {
	if s.PCRs == 0 || len(s.Values) == 0 {
		return fmt.Errorf("boot state %q names no PCR or no bank", s.Label)
	}
	for i := range s.Values {
		b := &s.Values[i]
		if b.Alg.Size() == 0 {
			return fmt.Errorf("boot state %q: %s is not a bank that can be sealed to", s.Label, b.Alg)
		}
		for p := range s.PCRs.All() {
			v := b.Values[p]
			switch {
			case len(v) != b.Alg.Size():
				return fmt.Errorf("boot state %q: the value of PCR %d in the %s bank is not known", s.Label, p, b.Alg)
			case v.All(0xff) || p.Dynamic() && v.All(0):
				// Zeros or ones in a launch PCR are what any machine has that was not launched,
				// or whose launch measured nothing.
				return fmt.Errorf("boot state %q: PCR %d in the %s bank holds no measurement", s.Label, p, b.Alg)
			}
		}
	}
	for _, m := range s.Measured {
		for i := range s.Values {
			if alg := s.Values[i].Alg; len(tpm.Find(m.Digests, alg)) != alg.Size() {
				return fmt.Errorf("boot state %q: the measurement of the %s has no %s digest", s.Label, m.Name, alg)
			}
		}
	}
	return nil
}

func (s *State) write(w *writer) {
	w.counted16([]byte(s.Label))
	w.u32(uint32(s.PCRs))
	w.u8(uint8(len(s.Values)))
	for i := range s.Values {
		w.u16(uint16(s.Values[i].Alg))
		for p := range s.PCRs.All() {
			w.raw(s.Values[i].Values[p])
		}
	}
	w.u16(uint16(len(s.Measured)))
	for _, m := range s.Measured {
		w.counted16([]byte(m.Name))
		w.u8(uint8(m.PCR))
		for i := range s.Values {
			w.raw(tpm.Find(m.Digests, s.Values[i].Alg))
		}
	}
}

func (s *State) read(r *reader) {
	s.Label = string(r.counted16())
	s.PCRs = tpm.PCRs(r.u32())
	if r.err == nil && s.PCRs>>tpm.NumPCRs != 0 {
		r.err = fmt.Errorf("a boot state names a PCR that no TPM has")
	}
	banks := int(r.u8())
	for i := 0; i < banks && r.err == nil; i++ {
		b := tpm.Bank{Alg: tpm.Alg(r.u16())}
		if b.Alg.Size() == 0 {
			r.err = fmt.Errorf("a boot state has a bank of unknown algorithm %s", b.Alg)
			return
		}
		for p := range s.PCRs.All() {
			b.Values[p] = r.raw(b.Alg.Size())
		}
		s.Values = append(s.Values, b)
	}
	for n := r.u16(); n > 0 && r.err == nil; n-- {
		m := Measurement{Name: string(r.counted16()), PCR: tpm.PCR(r.u8())}
		for i := range s.Values {
			alg := s.Values[i].Alg
			m.Digests = append(m.Digests, tpm.TaggedDigest{Alg: alg, Digest: r.raw(alg.Size())})
		}
		s.Measured = append(s.Measured, m)
	}
}

// EncodeStates writes boot states as a record has them, to be kept.
func EncodeStates(states []State) []byte {
	w := &writer{}
	w.u8(uint8(len(states)))
	for i := range states {
		states[i].write(w)
	}
	return w.b
}

// DecodeStates is the inverse of EncodeStates. The error wraps [ErrDamaged].
func DecodeStates(b []byte) ([]State, error) {
	r := &reader{b: b}
	n := int(r.u8())
	if n == 0 || n > MaxStates {
		return nil, fmt.Errorf("%w: %d boot states", ErrDamaged, n)
	}
	var states []State
	for range n {
		var s State
		if s.read(r); r.err == nil {
			if err := s.check(); err != nil {
				return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
			}
		}
		states = append(states, s)
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("%w: the boot states: %w", ErrDamaged, err)
	}
	return states, nil
}
