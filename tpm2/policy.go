package tpm2

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/antievilmaid/aem/tpm"
)

// MaxStates is how many boot states a policy can hold: TPM2_PolicyOR takes eight branches.
const MaxStates = 8

// State is one approved boot state: the values that a set of PCRs must have in
// each of the listed banks.
type State struct {
	Algs []tpm.Alg // at least one; the order is part of the policy
	PCRs tpm.PCRs  // at least one
	// Digest is SHA-256 over the values, bank by bank and in each bank by
	// ascending PCR, which is what TPM2_PolicyPCR compares (Part 3, clause 23.7).
	Digest [32]byte
}

// StateOf computes the state in which the PCRs of the set have the given values.
func StateOf(values tpm.Banks, algs []tpm.Alg, set tpm.PCRs) (State, error) {
	s := State{Algs: algs, PCRs: set}
	if len(algs) == 0 || set == 0 {
		return s, fmt.Errorf("a boot state needs a bank and a PCR at least")
	}
	h := sha256.New()
	for _, a := range algs {
		for p := range set.All() {
			v := values.Value(a, p)
			if v == nil {
				return s, fmt.Errorf("the value of PCR %d in the %s bank is not known", p, a)
			}
			h.Write(v)
		}
	}
	h.Sum(s.Digest[:0])
	return s, nil
}

func (s State) command() gotpm.PolicyPCR {
	return gotpm.PolicyPCR{PcrDigest: gotpm.TPM2BDigest{Buffer: s.Digest[:]}, Pcrs: selections(s.Algs, s.PCRs)}
}

// Policy says when a sealed object opens: in one of the states, and while the
// counter has the given value, and after the right PIN. What is zero is not
// demanded.
type Policy struct {
	States  []State
	Counter *Counter
	Value   uint64
	PIN     bool
}

// Digest computes the authPolicy without a TPM.
func (p *Policy) Digest() ([]byte, error) {
	calc, err := gotpm.NewPolicyCalculator(gotpm.TPMAlgSHA256)
	if err != nil {
		return nil, err
	}
	branches, err := p.branches()
	if err != nil {
		return nil, err
	}
	switch len(branches) {
	case 0:
	case 1:
		err = p.States[0].command().Update(calc)
	default:
		err = gotpm.PolicyOr{PHashList: gotpm.TPMLDigest{Digests: branches}}.Update(calc)
	}
	if err == nil && p.Counter != nil {
		err = p.counterCommand(0).Update(calc)
	}
	if err == nil && p.PIN {
		err = gotpm.PolicyAuthValue{}.Update(calc)
	}
	if err != nil {
		return nil, fmt.Errorf("compute the policy: %w", err)
	}
	return calc.Hash().Digest, nil
}

// branches computes the policy digest of each state alone.
func (p *Policy) branches() ([]gotpm.TPM2BDigest, error) {
	if len(p.States) > MaxStates {
		return nil, fmt.Errorf("%d boot states are approved; a policy holds %d: drop one first", len(p.States), MaxStates)
	}
	var list []gotpm.TPM2BDigest
	for _, s := range p.States {
		calc, err := gotpm.NewPolicyCalculator(gotpm.TPMAlgSHA256)
		if err != nil {
			return nil, err
		}
		if err := s.command().Update(calc); err != nil {
			return nil, fmt.Errorf("compute the policy of a boot state: %w", err)
		}
		list = append(list, gotpm.TPM2BDigest{Buffer: calc.Hash().Digest})
	}
	return list, nil
}

func (p *Policy) counterCommand(session gotpm.TPMHandle) gotpm.PolicyNV {
	return gotpm.PolicyNV{
		AuthHandle:    p.Counter.handle(),
		NVIndex:       gotpm.NamedHandle{Handle: gotpm.TPMHandle(p.Counter.Index), Name: gotpm.TPM2BName{Buffer: p.Counter.Name}},
		PolicySession: session,
		OperandB:      gotpm.TPM2BOperand{Buffer: binary.BigEndian.AppendUint64(nil, p.Value)},
		Operation:     gotpm.TPMEOEq,
	}
}

// approve executes the PCR part of the policy in a session, for the state at
// index state. The TPM compares its PCRs with the state's digest at once.
func (t *TPM) approve(p *Policy, state int, session gotpm.TPMHandle) error {
	if len(p.States) == 0 {
		return nil
	}
	if state < 0 || state >= len(p.States) {
		return fmt.Errorf("there is no boot state %d in a policy of %d", state, len(p.States))
	}
	cmd := p.States[state].command()
	cmd.PolicySession = session
	if _, err := run(t, "TPM2_PolicyPCR", cmd); err != nil {
		return classify(err, map[gotpm.TPMRC]error{gotpm.TPMRCValue: ErrPolicy, gotpm.TPMRCPCRChanged: ErrPolicy})
	}
	if len(p.States) == 1 {
		return nil
	}
	branches, err := p.branches()
	if err != nil {
		return err
	}
	_, err = run(t, "TPM2_PolicyOR", gotpm.PolicyOr{PolicySession: session, PHashList: gotpm.TPMLDigest{Digests: branches}})
	return classify(err, map[gotpm.TPMRC]error{gotpm.TPMRCValue: ErrPolicy})
}

// prove executes what the policy demands besides the PCRs.
func (t *TPM) prove(p *Policy, session gotpm.TPMHandle) error {
	if p.Counter != nil {
		if _, err := run(t, "TPM2_PolicyNV", p.counterCommand(session)); err != nil {
			return classify(err, map[gotpm.TPMRC]error{
				gotpm.TPMRCPolicy: ErrStale, gotpm.TPMRCHandle: ErrNoCounter, gotpm.TPMRCAuthFail: ErrNoCounter, gotpm.TPMRCBadAuth: ErrNoCounter,
			})
		}
	}
	if p.PIN {
		if _, err := run(t, "TPM2_PolicyAuthValue", gotpm.PolicyAuthValue{PolicySession: session}); err != nil {
			return err
		}
	}
	return nil
}
