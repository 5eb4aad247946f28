package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/tpm"
)

func execute(args ...string) error {
	cmd := newCommand()
	cmd.SetArgs(args)
	cmd.SetOut(&bytes.Buffer{})
	cmd.SetErr(&bytes.Buffer{})
	return cmd.Execute()
}

func TestCommandLineErrorsSayWhatIsMissing(t *testing.T) {
	for want, args := range map[string][]string{
		"--listen":             {"--swtpm", "s", "--kernel", "k"},
		"--swtpm":              {"--listen", "l", "--kernel", "k"},
		"--kernel":             {"--listen", "l", "--swtpm", "s"},
		"no launch platform":   {"--platform", "arm"},
		"is no size":           {"--size", "64k"},
		"power of two":         {"--size", "65000"},
		"accepts 1 arg":        {"loader"},
		"unknown command":      {"launch"},
		"write the loader ima": {"loader", "/nonexistent/file"},
	} {
		if err := execute(args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, which does not say %q", args, err, want)
		}
	}
}

func TestSizesHaveQEMUsUnits(t *testing.T) {
	for in, want := range map[string]sizeFlag{"65536": 65536, "64K": 65536, "1M": 1 << 20, "8192": 8192} {
		var n sizeFlag
		if err := n.Set(in); err != nil || n != want {
			t.Errorf("%s: %d, %v", in, n, err)
		}
	}
	for _, in := range []string{"", "K", "-64K", "64G", "9223372036854775807M", "0"} {
		var n sizeFlag
		if err := n.Set(in); err == nil {
			t.Errorf("%q was taken for %d bytes", in, n)
		}
	}
}

// What the loader command writes is what is launched without --loader, and both
// platforms' images can be launched.
func TestTheBuiltInLoaderIsTheOneThatIsWrittenOut(t *testing.T) {
	for _, p := range []drtm.Platform{drtm.TXT, drtm.SKINIT} {
		file := filepath.Join(t.TempDir(), "loader")
		if err := execute("loader", "--platform", p.Name(), file); err != nil {
			t.Fatal(err)
		}
		written, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m := prepare(t, p, "")
		s := simulator{config: m.config}
		l, err := s.files()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(l.Loader, written) {
			t.Errorf("%s: the written image is not the built-in one", p)
		}
		if _, _, err := s.target(tpm.V20, []tpm.Alg{tpm.SHA256}); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestTheFirmwaresStartIsRecognised(t *testing.T) {
	startup20 := []byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0}
	startup12 := []byte{0x00, 0xc1, 0, 0, 0, 12, 0, 0, 0, 0x99, 0, 1}
	good := []byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0, 0}
	bad := []byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 1, 0}
	for name, c := range map[string]struct {
		cmd, rsp []byte
		want     tpm.Version
	}{
		"TPM 2.0":             {startup20, good, tpm.V20},
		"TPM 1.2":             {startup12, good, tpm.V12},
		"refused":             {startup20, bad, 0},
		"another command":     {probe, good, 0},
		"ordinal of 1.2 only": {append([]byte{0x80, 0x01}, startup12[2:]...), good, 0},
		"cut command":         {startup20[:9], good, 0},
		"cut answer":          {startup20, good[:9], 0},
	} {
		if got, ok := startedFamily(c.cmd, c.rsp); got != c.want || ok != (c.want != 0) {
			t.Errorf("%s: %s, %v", name, got, ok)
		}
	}
}
