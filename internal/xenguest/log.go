package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/xenlog"
	"github.com/antievilmaid/aem/internal/xenstore"
	"github.com/antievilmaid/aem/tpm"
)

// proveLog reads the log of the guest's start, and holds it against the guest's own TPM. It returns the digest
// of what was read.
func proveLog(c tpm.Channel, v tpm.Version) (string, error) {
	if !xenlog.Here() {
		return "", errors.New("the kernel shows no vTPM of Xen's")
	}
	store, err := xenstore.DialPath(xenstore.Device)
	if err != nil {
		return "", err
	}
	defer store.Close()
	b, err := xenlog.Read(store)
	if err != nil {
		return "", err
	}
	log, err := eventlog.Parse(b)
	if err != nil {
		return "", err
	}
	banks, err := values(c, v, told)
	if err != nil {
		return "", err
	}
	report := log.Verify(banks, told, true)
	if len(report) != told.Len()*len(banks) {
		return "", fmt.Errorf("%d values were compared", len(report))
	}
	for _, r := range report {
		if r.Verdict != eventlog.Match {
			return "", fmt.Errorf("PCR %d of %s is %s, and the log leads to %s", r.PCR, r.Alg, r.Actual, r.Replayed)
		}
	}
	backend, err := store.Read("device/vtpm/0/backend")
	if err != nil {
		return "", err
	}
	if err := store.Write(backend+"/log/00", "x"); !errors.Is(err, os.ErrPermission) {
		return "", fmt.Errorf("a guest that writes its log: %v", err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b)), nil
}
