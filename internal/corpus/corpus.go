// Package corpus finds, for tests, the collection of real and damaged event logs,
// registers and measurement lists that stands beside the repository. Not everybody
// has it: a test that asks for it is skipped where it is missing.
//
// A file is named by its class and its name, "srtm/laptop.bin". The class expect is
// not for reading: it holds what independent parsers made of the others.
package corpus

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/tpm"
)

const (
	beside = "../shared/corpus" // from the repository's root
	expect = "expect"
)

// Dir is the collection's folder.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for !exists(filepath.Join(dir, ".ci")) { // go.mod is in bench, too
		if dir == filepath.Dir(dir) {
			t.Fatal("the test does not run inside the repository")
		}
		dir = filepath.Dir(dir)
	}
	dir = filepath.Join(dir, beside)
	if !exists(dir) {
		t.Skip("the collection of logs is not beside the repository")
	}
	return dir
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Files lists the files of some classes, or of all of them.
func Files(t testing.TB, classes ...string) []string {
	t.Helper()
	dir := Dir(t)
	paths, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range paths {
		class := filepath.Base(filepath.Dir(p))
		if class != expect && (len(classes) == 0 || slices.Contains(classes, class)) {
			names = append(names, class+"/"+filepath.Base(p))
		}
	}
	// A class that lost its files would pass every test over it.
	for _, c := range classes {
		if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, c+"/") }) {
			t.Fatalf("the collection has no files of the class %s", c)
		}
	}
	return names
}

// Read reads a file.
func Read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(Dir(t), name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Banks are what a file replays to by an independent parser (kind "replay"), or
// what the TPM of its machine held ("pcrs"). A PCR that nobody knows has no value;
// nil if none is known. Banks that this project can't compute are left out.
func Banks(t testing.TB, name, kind string) tpm.Banks {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(Dir(t), expect, strings.ReplaceAll(name, "/", "_")+"."+kind))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var banks tpm.Banks
	for line := range strings.Lines(string(b)) {
		w := strings.Fields(line)
		if len(w) != 3 {
			continue
		}
		a, err := tpm.ParseAlg(w[0])
		if err != nil || !a.Available() {
			continue // a remark, or SM3
		}
		p, err := strconv.ParseUint(w[1], 10, 5)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		d, err := hex.DecodeString(w[2])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if banks.Bank(a) == nil {
			banks = append(banks, tpm.Bank{Alg: a})
		}
		banks.Bank(a).Values[p] = d
	}
	return banks
}
