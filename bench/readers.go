package bench

import (
	"fmt"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// Reader is a library or a program that reads measurement logs.
type Reader interface {
	Name() string
	Read(*Input) Reading
}

// Reading is what a reader made of a log.
type Reading struct {
	Err     error // why it refused the log, or nil
	Crashed bool  // Err is a panic or a signal rather than a refusal
	Events  int   // how many it found, without the header's own record

	// Accepts asks whether the values are those to which the log leads. It is nil
	// where the reader judges no values.
	Accepts func(...Value) (bool, error)
	// Replayed are the values to which the reader says that the log leads, for the
	// PCRs that have events. It is nil where the reader tells none.
	Replayed map[Register]tpm.Digest
}

// Register is one PCR of one bank.
type Register struct {
	PCR tpm.PCR
	Alg tpm.Alg
}

// Value is what a TPM is claimed to hold.
type Value struct {
	Register
	Digest tpm.Digest
}

// Ours is package eventlog.
type Ours struct{}

// Name is the package's import path.
func (Ours) Name() string { return "aem/eventlog" }

// Read parses the log; values are judged with [eventlog.Log.Verify].
func (Ours) Read(in *Input) Reading {
	log, err := eventlog.Parse(in.Log)
	if err != nil {
		return Reading{Err: err}
	}
	return Reading{Events: len(log.Events), Accepts: func(values ...Value) (bool, error) {
		var banks tpm.Banks
		var set tpm.PCRs
		for _, v := range values {
			if banks.Bank(v.Alg) == nil {
				banks = append(banks, tpm.Bank{Alg: v.Alg})
			}
			banks.Bank(v.Alg).Values[v.PCR] = v.Digest
			set |= tpm.PCRSet(v.PCR)
		}
		return log.Verify(banks, set, in.Launched).OK(), nil
	}}
}

// guard runs f and makes an error of a panic. It can't help against a stack
// overflow, which ends the process: see the note at [GoEventlog].
func guard(f func() error) (crashed bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			crashed, err = true, fmt.Errorf("panic: %v", p)
		}
	}()
	return false, f()
}
