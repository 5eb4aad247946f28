package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/antievilmaid/aem/aem"
)

// An older store is refused, and taken only by who says that he knows what that breaks.
func TestAnOlderStore(t *testing.T) {
	h := newHost(t)
	d := h.Start()
	v := h.New("a guest", "2.0")
	who := h.Identity(v)
	h.want(aem.ExitError, "systemctl stop vtpmd", "", h.at("restore", "--yes", filepath.Join(h.Dir, "anything"))...)
	d.Stop()
	path := filepath.Join(h.State(), "vtpms")
	old, err := os.ReadFile(path)
	must(t, err)
	d = h.Start()
	h.New("a later guest", "2.0")
	d.Stop()
	must(t, os.WriteFile(path, old, 0o600))
	h.Do(aem.ExitStale, "put back from an earlier time")
	backup := filepath.Join(h.Dir, "old")
	must(t, os.WriteFile(backup, old, 0o600))
	h.want(aem.ExitUsage, "BACKUP is missing", "", h.at("restore")...)
	h.want(aem.ExitUsage, "nobody can say", "", h.at("restore", backup)...)
	h.want(aem.ExitOK, "was restored", "", h.at("restore", "--yes", backup)...)
	d = h.Start()
	if h.Identity(v) != who {
		t.Error("the restored vTPM is another one")
	}
	d.Stop()
	must(t, os.Remove(path))
	h.Do(aem.ExitDamaged, "is missing")
}
