package tis_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/tpm/tis"
)

// sysfs makes a fake root folder in which a driver has a TPM. The files bind and
// unbind keep what was written last; nothing else in it changes by that.
func sysfs(t *testing.T, driver string) string {
	t.Helper()
	root := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, content string) {
		must(os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755))
		must(os.WriteFile(filepath.Join(root, name), []byte(content), 0o644))
	}
	write("sys/bus/pnp/drivers/"+driver+"/bind", "")
	write("sys/bus/pnp/drivers/"+driver+"/unbind", "")
	write("sys/devices/pnp0/00:05/tpm/tpm0/tpm_version_major", "1\n")
	must(os.Symlink(filepath.Join(root, "sys/bus/pnp/drivers", driver), filepath.Join(root, "sys/devices/pnp0/00:05/driver")))
	must(os.Symlink("../../../00:05", filepath.Join(root, "sys/devices/pnp0/00:05/tpm/tpm0/device")))
	must(os.MkdirAll(filepath.Join(root, "sys/class/tpm"), 0o755))
	must(os.Symlink("../../devices/pnp0/00:05/tpm/tpm0", filepath.Join(root, "sys/class/tpm/tpm0")))
	write("proc/77/comm", "tpm2-abrmd\n")
	must(os.MkdirAll(filepath.Join(root, "proc/77/fd"), 0o755))
	must(os.Symlink("/dev/null", filepath.Join(root, "proc/77/fd/0")))
	return root
}

func told(t *testing.T, root, driver, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "sys/bus/pnp/drivers", driver, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTheDriverLosesItsTPMAndGetsItBack(t *testing.T) {
	for _, name := range []string{"tpm_tis", "tpm_crb"} {
		root := sysfs(t, name)
		d, err := tis.Unbind(root)
		if err != nil {
			t.Fatal(err)
		}
		if d.Name != name || d.Device != "00:05" || told(t, root, name, "unbind") != "00:05" || told(t, root, name, "bind") != "" {
			t.Errorf("unbound: %+v, unbind was told %q", d, told(t, root, name, "unbind"))
		}
		if err := d.Restore(); err != nil || told(t, root, name, "bind") != "00:05" {
			t.Errorf("bound: %v, bind was told %q", err, told(t, root, name, "bind"))
		}
		// A second time there is nothing to give back.
		os.Remove(filepath.Join(root, "sys/bus/pnp/drivers", name, "bind"))
		if err := d.Restore(); err != nil {
			t.Errorf("bound twice: %v", err)
		}
	}
}

func TestADriverThatCannotGetItsTPMBackIsNamed(t *testing.T) {
	root := sysfs(t, "tpm_tis")
	d, err := tis.Unbind(root)
	if err != nil {
		t.Fatal(err)
	}
	bind := filepath.Join(root, "sys/bus/pnp/drivers/tpm_tis/bind")
	os.Remove(bind)
	if err := d.Restore(); err == nil || !strings.Contains(err.Error(), "tpm_tis") || !strings.Contains(err.Error(), "00:05") {
		t.Error(err)
	}
	if err := os.WriteFile(bind, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := d.Restore(); err != nil || told(t, root, "tpm_tis", "bind") != "00:05" {
		t.Errorf("the second time: %v", err)
	}
}

func TestWithoutADriverThereIsNothingToTake(t *testing.T) {
	d, err := tis.Unbind(t.TempDir())
	if err != nil || d.Name != "" {
		t.Fatalf("%+v, %v", d, err)
	}
	if err := d.Restore(); err != nil {
		t.Error(err)
	}
}

func TestATPMInUseIsLeftAlone(t *testing.T) {
	for _, node := range []string{"/dev/tpm0", "/dev/tpmrm0"} {
		root := sysfs(t, "tpm_tis")
		if err := os.Symlink(node, filepath.Join(root, "proc/77/fd/5")); err != nil {
			t.Fatal(err)
		}
		_, err := tis.Unbind(root)
		if !errors.Is(err, tis.ErrInUse) || !strings.Contains(err.Error(), `"tpm2-abrmd" (process 77)`) || told(t, root, "tpm_tis", "unbind") != "" {
			t.Errorf("%s: %v", node, err)
		}
	}
	// Another machine's TPM, so to speak.
	root := sysfs(t, "tpm_tis")
	if err := os.Symlink("/dev/tpm1", filepath.Join(root, "proc/77/fd/5")); err != nil {
		t.Fatal(err)
	}
	if _, err := tis.Unbind(root); err != nil {
		t.Errorf("another TPM is in use: %v", err)
	}
}

func TestOtherDriversAreLeftAlone(t *testing.T) {
	root := sysfs(t, "tpm_tis_spi")
	if _, err := tis.Unbind(root); !errors.Is(err, tis.ErrDriver) || !strings.Contains(err.Error(), "tpm_tis_spi") || told(t, root, "tpm_tis_spi", "unbind") != "" {
		t.Error(err)
	}
	root = sysfs(t, "tpm_tis")
	if err := os.Symlink("../../devices/pnp0/00:05/tpm/tpm0", filepath.Join(root, "sys/class/tpm/tpm1")); err != nil {
		t.Fatal(err)
	}
	if _, err := tis.Unbind(root); !errors.Is(err, tis.ErrDriver) || told(t, root, "tpm_tis", "unbind") != "" {
		t.Errorf("two TPMs: %v", err)
	}
}

// devMem puts a file where /dev/mem would be, as large as the registers and with the
// bytes that their vendor and interface would have.
func devMem(t *testing.T, root string, fill byte) {
	t.Helper()
	b := make([]byte, 0x10000+tis.Size)
	for i := range b {
		b[i] = fill
	}
	if err := os.MkdirAll(filepath.Join(root, "dev"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "dev/mem"), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTheDriverHasItsTPMAgainAfterARefusal(t *testing.T) {
	root := sysfs(t, "tpm_tis")
	devMem(t, root, 0xff)
	_, err := tis.Open(t.Context(), tis.Options{Root: root, Address: 0x10000, Locality: 2})
	if !errors.Is(err, tis.ErrNoTPM) || told(t, root, "tpm_tis", "unbind") != "00:05" || told(t, root, "tpm_tis", "bind") != "00:05" {
		t.Errorf("%v; bind was told %q", err, told(t, root, "tpm_tis", "bind"))
	}
}

// Registers whose pages are gone kill no process.
func TestAMappingThatIsGoneIsAnError(t *testing.T) {
	root := sysfs(t, "tpm_tis")
	devMem(t, root, 0xff)
	if err := os.Truncate(filepath.Join(root, "dev/mem"), 0x10000); err != nil {
		t.Fatal(err)
	}
	_, err := tis.Open(t.Context(), tis.Options{Root: root, Address: 0x10000, Locality: 2})
	if !errors.Is(err, tis.ErrRegionBusy) || !strings.Contains(err.Error(), "gone") || told(t, root, "tpm_tis", "bind") != "00:05" {
		t.Error(err)
	}
}

func TestNothingIsTakenWhereTheKernelHasNoMemoryDevice(t *testing.T) {
	root := sysfs(t, "tpm_tis")
	if _, err := tis.Open(t.Context(), tis.Options{Root: root, Locality: 2}); !errors.Is(err, tis.ErrLockedDown) || told(t, root, "tpm_tis", "unbind") != "" {
		t.Error(err)
	}
}

func TestSpecs(t *testing.T) {
	for spec, want := range map[string]tis.Options{
		"0":            {},
		"3":            {Locality: 3},
		"2@0xfed40000": {Locality: 2, Address: 0xfed40000},
		"1@4275306496": {Locality: 1, Address: 0xfed40000},
	} {
		if got, err := tis.ParseSpec(spec); err != nil || got != want {
			t.Errorf("%s: %+v, %v", spec, got, err)
		}
	}
	for _, spec := range []string{"", "4", "-1", "two", "2@", "2@0", "2@0xfed40010", "2@0xfffffffffffff000", "@0xfed40000"} {
		if got, err := tis.ParseSpec(spec); err == nil {
			t.Errorf("%s: %+v", spec, got)
		}
	}
	if _, err := tis.Open(t.Context(), tis.Options{Root: t.TempDir(), Address: 0x123}); !errors.Is(err, tis.ErrNotRegisters) {
		t.Errorf("an address between pages: %v", err)
	}
}

// A sealed file is refused to a writer's mapping as the kernel refuses what a driver
// claims: with EPERM.
func TestWhoHasTheRegistersIsNamed(t *testing.T) {
	fd, err := unix.MemfdCreate("mem", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, 0x10000+tis.Size); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		iomem string
		want  error
		text  string
	}{
		{"00000000-ffffffff : Reserved\n 00010000-00014fff : PCI Bus 0000:00\n  00010000-00014fff : MSFT0101:00\n    00010000-00014fff : MSFT0101:00\n  00015000-00015fff : next\n", tis.ErrRegionBusy, ": MSFT0101:00 has them"},
		{"00000000-ffffffff : System RAM\n", tis.ErrNotRegisters, "CONFIG_STRICT_DEVMEM"},
		{"00000000-00000000 : MSFT0101:00\n", tis.ErrRegionBusy, "doesn't say"},
		{"no lines\nthat-any : kernel\n", tis.ErrRegionBusy, "doesn't say"},
	} {
		root := sysfs(t, "tpm_tis")
		if err := os.MkdirAll(filepath.Join(root, "dev"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(fmt.Sprintf("/proc/self/fd/%d", fd), filepath.Join(root, "dev/mem")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "proc/iomem"), []byte(c.iomem), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := tis.Open(t.Context(), tis.Options{Root: root, Address: 0x10000, Locality: 2})
		if !errors.Is(err, c.want) || !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), c.text) || told(t, root, "tpm_tis", "bind") != "00:05" {
			t.Errorf("%q: %v", c.iomem, err)
		}
	}
}
