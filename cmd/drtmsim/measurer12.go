package main

import (
	"encoding/binary"
	"fmt"

	"github.com/antievilmaid/aem/tpm"
)

// measurer12 speaks the two commands of a TPM 1.2 that a launch needs (TPM
// Main, Part 3, clauses 16.1 and 16.2).
type measurer12 struct{ ch tpm.Channel }

func (m measurer12) banks() ([]tpm.Alg, error) { return []tpm.Alg{tpm.SHA1}, nil }

func (m measurer12) extend(p tpm.PCR, d []tpm.TaggedDigest) error {
	digest := tpm.Find(d, tpm.SHA1)
	if digest == nil {
		return fmt.Errorf("there is no SHA-1 digest to extend")
	}
	const ordExtend = 0x14
	_, err := m.command(ordExtend, append(binary.BigEndian.AppendUint32(nil, uint32(p)), digest...))
	return err
}

func (m measurer12) read(set tpm.PCRs) (tpm.Banks, error) {
	const ordPCRRead = 0x15
	b := tpm.Bank{Alg: tpm.SHA1}
	for p := range set.All() {
		v, err := m.command(ordPCRRead, binary.BigEndian.AppendUint32(nil, uint32(p)))
		if err != nil {
			return nil, err
		}
		b.Values[p] = v
	}
	return tpm.Banks{b}, nil
}

// command sends an unauthorised command and returns the digest that answers it.
func (m measurer12) command(ordinal uint32, params []byte) (tpm.Digest, error) {
	const header = 10
	cmd := []byte{0x00, 0xc1} // TPM_TAG_RQU_COMMAND
	cmd = binary.BigEndian.AppendUint32(cmd, uint32(header+len(params)))
	cmd = binary.BigEndian.AppendUint32(cmd, ordinal)
	rsp, err := m.ch.Send(append(cmd, params...))
	if err != nil {
		return nil, err
	}
	if len(rsp) < header {
		return nil, fmt.Errorf("the TPM answered with %d bytes", len(rsp))
	}
	if rc := binary.BigEndian.Uint32(rsp[6:]); rc != 0 {
		return nil, fmt.Errorf("the TPM answered TPM 1.2 result %#x", rc)
	}
	if len(rsp) != header+tpm.SHA1.Size() {
		return nil, fmt.Errorf("the TPM answered with %d bytes where a digest was to be expected", len(rsp)-header)
	}
	return tpm.Digest(rsp[header:]), nil
}
