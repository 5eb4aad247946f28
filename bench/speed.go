package bench

import (
	"errors"
	"fmt"

	"github.com/google/go-attestation/attest"
	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tcg"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// Work is what is timed: one step that one reader does.
type Work struct {
	Step, Reader string
	Do           func() error
}

// The steps.
const (
	Parse          = "parse"
	ParseAndReplay = "parse and replay all banks"
	ParseAndVerify = "parse and verify all PCRs"
)

// errRefused keeps a benchmark from timing a reader that gives up early.
var errRefused = errors.New("the log's own values are refused")

// Works are the steps to time for a log in two banks. The libraries have no replay
// that tells values: they replay one PCR for each value that is to be verified. So
// that step gives them the PCRs that have events, and the last one all 24.
func Works(log []byte) ([]Work, error) {
	parsed, err := eventlog.Parse(log)
	if err != nil {
		return nil, err
	}
	banks := parsed.Replay(false)
	var used tpm.PCRs
	for i := range parsed.Events {
		used |= tpm.PCRSet(parsed.Events[i].PCR)
	}
	all := tpm.PCRs(1<<tpm.NumPCRs - 1)
	return []Work{
		{Parse, Ours{}.Name(), func() error { _, err := eventlog.Parse(log); return err }},
		{Parse, GoEventlog{}.Name(), func() error { _, err := tcg.ParseEventLog(log, tcg.ParseOpts{}); return err }},
		{Parse, GoAttestation{}.Name(), func() error { _, err := attest.ParseEventLog(log); return err }},
		{ParseAndReplay, Ours{}.Name(), func() error { return replayOurs(log, banks) }},
		{ParseAndReplay, GoEventlog{}.Name(), verifyGoEventlog(log, banks, used)},
		{ParseAndReplay, GoAttestation{}.Name(), verifyGoAttestation(log, banks, used)},
		{ParseAndVerify, Ours{}.Name(), func() error { return verifyOurs(log, banks, all) }},
		{ParseAndVerify, GoEventlog{}.Name(), verifyGoEventlog(log, banks, all)},
		{ParseAndVerify, GoAttestation{}.Name(), verifyGoAttestation(log, banks, all)},
	}, nil
}

func replayOurs(b []byte, want tpm.Banks) error {
	log, err := eventlog.Parse(b)
	if err != nil {
		return err
	}
	if got := log.Replay(false); len(got) != len(want) || !got[0].Values[9].Equal(want[0].Values[9]) {
		return errRefused
	}
	return nil
}

func verifyOurs(b []byte, values tpm.Banks, set tpm.PCRs) error {
	log, err := eventlog.Parse(b)
	if err != nil {
		return err
	}
	if !log.Verify(values, set, false).OK() {
		return errRefused
	}
	return nil
}

func verifyGoEventlog(b []byte, values tpm.Banks, set tpm.PCRs) func() error {
	var mrs []register.MR
	for i := range values {
		for p := range set.All() {
			mrs = append(mrs, register.PCR{Index: int(p), Digest: values[i].Values[p], DigestAlg: hashes[values[i].Alg]})
		}
	}
	return func() error {
		events, err := tcg.ParseAndReplay(b, mrs, tcg.ParseOpts{})
		if err == nil && len(events) == 0 {
			err = fmt.Errorf("no event verified: %w", errRefused)
		}
		return err
	}
}

func verifyGoAttestation(b []byte, values tpm.Banks, set tpm.PCRs) func() error {
	var pcrs []attest.PCR
	for i := range values {
		for p := range set.All() {
			pcrs = append(pcrs, attest.PCR{Index: int(p), Digest: values[i].Values[p], DigestAlg: hashes[values[i].Alg]})
		}
	}
	return func() error {
		log, err := attest.ParseEventLog(b)
		if err != nil {
			return err
		}
		events, err := log.Verify(pcrs)
		if err == nil && len(events) == 0 {
			err = fmt.Errorf("no event verified: %w", errRefused)
		}
		return err
	}
}
