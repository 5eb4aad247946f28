package bench

import (
	"crypto"
	"errors"

	"github.com/google/go-attestation/attest"
	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tcg"

	"github.com/antievilmaid/aem/tpm"
)

// hashes are the banks' algorithms by the names that Go's crypto package has. SM3
// has none, so neither library can be asked about it.
var hashes = map[tpm.Alg]crypto.Hash{
	tpm.SHA1: crypto.SHA1, tpm.SHA256: crypto.SHA256, tpm.SHA384: crypto.SHA384, tpm.SHA512: crypto.SHA512,
	tpm.SHA3256: crypto.SHA3_256, tpm.SHA3384: crypto.SHA3_384, tpm.SHA3512: crypto.SHA3_512,
}

// GoEventlog is github.com/google/go-eventlog.
//
// Only its parser and its replay are called. Its tpmeventlog.ReplayAndExtract asks
// each event for its type, and version 0.0.2 answers for an unknown type, such as
// every one of a dynamic launch, with a recursion that ends the whole process.
type GoEventlog struct{}

// Name is the module's last part.
func (GoEventlog) Name() string { return "go-eventlog" }

// Read parses the log; values are judged with tcg.EventLog.Verify.
func (GoEventlog) Read(in *Input) (r Reading) {
	var log *tcg.EventLog
	if r.Crashed, r.Err = guard(func() (err error) {
		log, err = tcg.ParseEventLog(in.Log, tcg.ParseOpts{})
		return err
	}); r.Err != nil {
		return r
	}
	r.Events = len(log.Events(register.HashSHA1))
	r.Accepts = func(values ...Value) (ok bool, err error) {
		mrs := make([]register.MR, len(values))
		for i, v := range values {
			mrs[i] = register.PCR{Index: int(v.PCR), Digest: v.Digest, DigestAlg: hashes[v.Alg]}
		}
		return judged[tcg.ReplayError](func() error { _, err := log.Verify(mrs); return err })
	}
	return r
}

// GoAttestation is the event log of github.com/google/go-attestation.
type GoAttestation struct{}

// Name is the module's last part.
func (GoAttestation) Name() string { return "go-attestation" }

// Read parses the log; values are judged with attest.EventLog.Verify.
func (GoAttestation) Read(in *Input) (r Reading) {
	var log *attest.EventLog
	if r.Crashed, r.Err = guard(func() (err error) {
		log, err = attest.ParseEventLog(in.Log)
		return err
	}); r.Err != nil {
		return r
	}
	r.Events = len(log.Events(attest.HashSHA1))
	r.Accepts = func(values ...Value) (ok bool, err error) {
		pcrs := make([]attest.PCR, len(values))
		for i, v := range values {
			pcrs[i] = attest.PCR{Index: int(v.PCR), Digest: v.Digest, DigestAlg: hashes[v.Alg]}
		}
		return judged[attest.ReplayError](func() error { _, err := log.Verify(pcrs); return err })
	}
	return r
}

// judged tells a verdict, which is a nil error or one of the type E, from
// everything else that may go wrong.
func judged[E error](verify func() error) (bool, error) {
	_, err := guard(verify)
	if e := *new(E); errors.As(err, &e) {
		return false, nil
	}
	return err == nil, err
}
