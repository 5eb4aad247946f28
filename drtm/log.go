package drtm

import (
	"fmt"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// logCapacity is the memory that GRUB gives to a launch's log: eight pages.
const logCapacity = 0x8000

// simulatedLogAddress stands in the header of SKL's logs, where a real one has
// the physical address of its memory. It is page aligned, as those are.
const simulatedLogAddress = 0xcf59_7000

// Units of four bytes, as SINIT and SKL write them into their headers.
const (
	uintnSINIT = 1
	uintnSKL   = 2
)

// BuildLog writes the log of a launch as the platform does on a TPM of that
// family: on TXT a crypto agile log or a TPM 1.2 event container, on SKINIT the
// Secure Kernel Loader's variants of a crypto agile or a TPM 1.2 log.
func BuildLog(p Platform, v tpm.Version, algs []tpm.Alg, ms []Measurement) (*eventlog.Log, error) {
	h := eventlog.Header{Algs: algs, Capacity: logCapacity}
	switch {
	case p == TXT && v == tpm.V20:
		// The log's memory is described elsewhere, in the TXT heap.
		h.Format, h.Uintn = eventlog.CryptoAgile, uintnSINIT
	case p == TXT && v == tpm.V12:
		h.Format = eventlog.TXT12Container
	case p == SKINIT && v == tpm.V20:
		h.Format, h.Uintn, h.SKL, h.Address = eventlog.CryptoAgile, uintnSKL, true, simulatedLogAddress
	case p == SKINIT && v == tpm.V12:
		h.Format = eventlog.SKL12
	default:
		return nil, fmt.Errorf("there is no log format for a launch by %s on a %s", p, v)
	}
	log, err := eventlog.New(h)
	if err != nil {
		return nil, fmt.Errorf("begin the launch's log: %w", err)
	}
	for _, m := range ms {
		if err := log.Append(m.Event()); err != nil {
			return nil, fmt.Errorf("log the measurement of the %s: %w", m.Role, err)
		}
	}
	return log, nil
}
