package main

import (
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
)

// state is the digest of each file below the laptop's folder, and what its TPM has of ours.
func (l *laptop) state() (map[string][sha256.Size]byte, bool) {
	l.t.Helper()
	files := map[string][sha256.Size]byte{}
	err := filepath.WalkDir(l.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files[path] = sha256.Sum256(b)
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	conn, err := swtpm.Dial(l.socket)
	if err != nil {
		l.t.Fatal(err)
	}
	defer conn.Close()
	counters, err := tpm2.New(conn).HasCounters()
	if err != nil {
		l.t.Fatal(err)
	}
	return files, counters
}

// Whatever has --dry-run says what it would do, and changes no file and nothing in the TPM.
func TestDryRunsChangeNothing(t *testing.T) {
	l := newLaptop(t, tpm.V20)
	stick := filepath.Join(l.dir, "stick")
	dry := func(says string, args ...string) {
		t.Helper()
		files, counters := l.state()
		l.want(aem.ExitOK, says, "", append(args, "--dry-run")...)
		afterFiles, afterCounters := l.state()
		if diff := cmp.Diff(files, afterFiles); diff != "" || counters != afterCounters {
			t.Errorf("%v --dry-run changed something: counters %t, then %t, files %s", args, counters, afterCounters, diff)
		}
	}
	dry("Would make a counter in the TPM 2.0", "init", "--no-disks", "--medium", l.dir)
	l.want(aem.ExitOK, "Ready.", "", "init", "--no-disks", "--medium", l.dir)
	dry("Would ask for a sentence", "secret", "set", "text")
	dry("Would ask for a code", "secret", "set", "totp")
	l.want(aem.ExitOK, "Kept.", sentence+"\n", "secret", "set", "text")
	dry("Would seal to Monday", "seal", "--label", "Monday")
	l.want(aem.ExitOK, "Sealed as generation 2", "", "seal", "--label", "Monday")
	dry("Would make a counter for blue", "media", "add", "blue", stick)
	l.want(aem.ExitOK, "blue is a medium now", "", "media", "add", "blue", stick)
	dry("Would seal to no medium", "media", "sync")
	dry("Would call blue red", "media", "rename", "blue", "red")
	dry("Would revoke blue", "media", "revoke", "blue")
	dry("Would remove blue", "media", "remove", "blue")
	dry("Would remove 0 files", "boot", "remove", "--root", l.dir)
	dry("Nothing was changed", "uninstall")
	l.want(aem.ExitError, "set up already", "", "init", "--no-disks", "--medium", l.dir, "--dry-run")
	l.want(aem.ExitError, "no medium has that name", "", "media", "remove", "green", "--dry-run")
}
