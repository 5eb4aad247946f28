package device_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/device"
	"github.com/antievilmaid/aem/tpm/tis"
)

// fakeRoot makes a folder with the given files below it.
func fakeRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestNoTPM(t *testing.T) {
	_, err := device.Open(device.Options{Root: t.TempDir()})
	if !errors.Is(err, device.ErrNoTPM) {
		t.Errorf("without a TPM: %v", err)
	}
	_, err = device.Open(device.Options{Spec: filepath.Join(t.TempDir(), "tpm0")})
	if !errors.Is(err, device.ErrNoTPM) {
		t.Errorf("with a node that is not there: %v", err)
	}
}

func TestResourceManagerIsPreferredAndSysfsTellsTheFamily(t *testing.T) {
	root := fakeRoot(t, map[string]string{
		"dev/tpm0": "", "dev/tpmrm0": "",
		"sys/class/tpm/tpm0/tpm_version_major": "2\n",
	})
	d, err := device.Open(device.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if filepath.Base(d.Path) != "tpmrm0" || d.Version != tpm.V20 {
		t.Errorf("opened %s as %s", filepath.Base(d.Path), d.Version)
	}
}

// What was bound again may have another name.
func TestATPMWithTheSecondNameIsFound(t *testing.T) {
	root := fakeRoot(t, map[string]string{"dev/tpm1": "", "dev/tpmrm1": "", "sys/class/tpm/tpm1/tpm_version_major": "2\n"})
	d, err := device.Open(device.Options{Root: root})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if filepath.Base(d.Path) != "tpmrm1" || d.Version != tpm.V20 {
		t.Errorf("opened %s as %s", filepath.Base(d.Path), d.Version)
	}
}

func TestRegistersAreOpenedByLocality(t *testing.T) {
	root := fakeRoot(t, map[string]string{"dev/mem": strings.Repeat("\xff", 0x10000+tis.Size)})
	_, err := device.Open(device.Options{Root: root, Spec: "tis:2@0x10000"})
	if !errors.Is(err, device.ErrNoTPM) || !errors.Is(err, tis.ErrNoTPM) {
		t.Errorf("where nothing answers: %v", err)
	}
	if _, err := device.Open(device.Options{Root: root, Spec: "tis:9"}); err == nil || !strings.Contains(err.Error(), "locality") {
		t.Errorf("at a locality that no TPM has: %v", err)
	}
}

func TestTheChipIsAskedForItsFamily(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V12, tpm.V20} {
		t.Run(v.String(), func(t *testing.T) {
			c, _ := testbed.NewTPM(t, v)
			got, err := device.Family(c)
			if err != nil || got != v {
				t.Errorf("Family = %s, %v", got, err)
			}
		})
	}
}

type answer []byte

func (a answer) Send([]byte) ([]byte, error) { return a, nil }

func TestNonsenseIsOfNeitherFamily(t *testing.T) {
	for _, a := range []answer{nil, {0x80}, {0x80, 0x01}, make(answer, 10)} {
		if v, err := device.Family(a); err == nil {
			t.Errorf("%x was taken for a %s", []byte(a), v)
		}
	}
}

func TestEmulatorSocket(t *testing.T) {
	c, e := testbed.NewTPM(t, tpm.V20)
	c.Close() // the emulator serves one client at a time
	d, err := device.Open(device.Options{Spec: "swtpm:" + e.Socket()})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.Version != tpm.V20 {
		t.Errorf("family %s", d.Version)
	}
	if _, ok := d.Channel.(tpm.LocalityChannel); !ok {
		t.Error("the emulator's channel can't choose a locality")
	}
}
