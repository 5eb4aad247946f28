package stage1_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/stage1"
)

func TestFindRootPointer(t *testing.T) {
	for name, x := range map[string]struct {
		list, err string
		address   uint64
		size      uint32
	}{
		"both":        {list: "ACPI=0x7f000\nACPI20=0x7fb7e014\nSMBIOS=0x7f600000\n", address: 0x7fb7e014, size: 36},
		"the old one": {list: "SMBIOS=0x7f600000\nACPI=0x7f000\n", address: 0x7f000, size: 20},
		"none":        {list: "SMBIOS=0x7f600000\n", err: "names none"},
		"nothing":     {list: "", err: "names none"},
		"no number":   {list: "ACPI20=here\n", err: "invalid syntax"},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			path := filepath.Join(root, "sys/firmware/efi/systab")
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(x.list), 0o600); err != nil {
				t.Fatal(err)
			}
			address, size, err := stage1.FindRootPointer(root)
			switch {
			case x.err != "" && (err == nil || !strings.Contains(err.Error(), x.err)):
				t.Errorf("the error is %v", err)
			case x.err == "" && (err != nil || address != x.address || size != x.size):
				t.Errorf("%#x, %d bytes, %v", address, size, err)
			}
		})
	}
}
