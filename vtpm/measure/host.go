package measure

import (
	"fmt"
	"slices"
	"strings"

	"github.com/antievilmaid/aem/tpm"
)

// Grade is how much the host that a guest runs on can prove of itself.
type Grade uint8

// The grades. The zero Grade is none of them, and is refused: what nobody has checked
// must not be told to guests.
const (
	// Launched: the manager opened its store on a machine that was launched as approved.
	Launched Grade = iota + 1
	// StaticRoot: the store is sealed to the firmware's PCRs alone, by explicit choice.
	StaticRoot
	// Insecure: nothing of the host is proven, by explicit choice.
	Insecure
)

// String is the word that stands in logs.
func (g Grade) String() string {
	switch g {
	case Launched:
		return "launched"
	case StaticRoot:
		return "static-root"
	case Insecure:
		return "insecure"
	}
	return fmt.Sprintf("unknown grade %d", uint8(g))
}

// Host is the machine that a guest runs on, as far as its vTPM is told.
type Host struct {
	Grade Grade
	// PCRs are the values of the hardware's PCRs: 17 and 18 in each active bank where
	// the host was launched, and those that are copied.
	PCRs tpm.Banks
}

// inherited are the host's PCRs that PCR 17 of a vTPM carries.
var inherited = tpm.PCRSet(tpm.PCRCode, tpm.PCRData)

// State is the host's launch state in its canonical form: lines of text, each with a line feed at
// its end, so that a reader can make it with printf. Where the host was launched, these
// are the bytes of the vTPM's own launch, whose digest PCR 17 holds.
//
//	aem vtpm host 1
//	grade launched
//	pcr 17 sha256 0f3a...
//	pcr 18 sha256 77c1...
//
// The banks stand in the order of their algorithms' numbers. A host that was not launched has
// no lines of PCRs: its values prove nothing.
func (h Host) State() ([]byte, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "aem vtpm host 1\ngrade %s\n", h.Grade)
	switch h.Grade {
	case StaticRoot, Insecure:
		return []byte(b.String()), nil
	case Launched:
	default:
		return nil, fmt.Errorf("nobody said whether the host was launched (%s)", h.Grade)
	}
	banks := slices.Clone(h.PCRs)
	slices.SortFunc(banks, func(a, b tpm.Bank) int { return int(a.Alg) - int(b.Alg) })
	if len(banks) == 0 {
		return nil, fmt.Errorf("the host was launched, and the values of its PCRs %s are not known", inherited)
	}
	for i := range banks {
		bank := &banks[i]
		if i > 0 && bank.Alg == banks[i-1].Alg {
			return nil, fmt.Errorf("the host has two %s banks", bank.Alg)
		}
		for p := range inherited.All() {
			v := bank.Values[p]
			switch {
			case len(v) == 0 || len(v) != bank.Alg.Size():
				return nil, fmt.Errorf("the host was launched, and the %s value of its PCR %d is not known", bank.Alg, p)
			case v.All(0xff), v.All(0) && p == tpm.PCRCode:
				// Ones are what the TPM starts with, and a launch extends PCR 17 in any case.
				return nil, fmt.Errorf("the host counts as launched, and its PCR %d holds %s in the %s bank, which no launch leaves", p, v, bank.Alg)
			}
			fmt.Fprintf(&b, "pcr %d %s %s\n", p, bank.Alg, v)
		}
	}
	return []byte(b.String()), nil
}
