package initramfs_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/initramfs"
)

// kernelTree makes a folder like /lib/modules/RELEASE.
func kernelTree(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "6.1.0-test")
	for name, content := range map[string]string{
		"modules.dep": "kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko kernel/lib/crc16.ko\n" +
			"kernel/fs/jbd2/jbd2.ko: kernel/lib/crc16.ko\n" +
			"kernel/lib/crc16.ko:\n" +
			"kernel/crypto/crc32c_generic.ko.xz:\n" +
			"kernel/a.ko:\n" +
			"kernel/b.ko:\n" +
			"kernel/drivers/virtio-blk.ko: kernel/gone.ko\n",
		"modules.builtin": "kernel/drivers/char/tpm/tpm_tis.ko\n",
		"modules.softdep": "# comment\nsoftdep ext4 pre: crc32c post: a\nsoftdep a pre: b nowhere\nsoftdep b pre: a\n",
		"modules.alias":   "alias crc32c crc32c_generic\nalias pci:v*d* a\n",

		"kernel/fs/ext4/ext4.ko": "E", "kernel/fs/jbd2/jbd2.ko": "J", "kernel/lib/crc16.ko": "C",
		"kernel/crypto/crc32c_generic.ko.xz": "X", "kernel/a.ko": "a", "kernel/b.ko": "b",
	} {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func readModules(t *testing.T, dir string) *initramfs.Modules {
	t.Helper()
	m, err := initramfs.ReadModules(dir)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestOrderLoadsWhatIsNeededFirst(t *testing.T) {
	m := readModules(t, kernelTree(t))
	for name, c := range map[string]struct{ ask, want []string }{
		"hard and soft needs": {[]string{"ext4"},
			[]string{"kernel/crypto/crc32c_generic.ko.xz", "kernel/lib/crc16.ko", "kernel/fs/jbd2/jbd2.ko", "kernel/fs/ext4/ext4.ko"}},
		"once each":      {[]string{"crc16", "jbd2", "crc16"}, []string{"kernel/lib/crc16.ko", "kernel/fs/jbd2/jbd2.ko"}},
		"built in":       {[]string{"tpm-tis"}, nil},
		"a soft circle":  {[]string{"a"}, []string{"kernel/b.ko", "kernel/a.ko"}},
		"a dash in name": {[]string{"crc32c-generic"}, []string{"kernel/crypto/crc32c_generic.ko.xz"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := m.Order(c.ask...)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestUnknownModuleIsAnError(t *testing.T) {
	m := readModules(t, kernelTree(t))
	for _, name := range []string{"xfs", "virtio_blk"} { // absent; needs one that is absent
		if _, err := m.Order(name); !errors.Is(err, initramfs.ErrNoModule) || !strings.Contains(err.Error(), name) {
			t.Errorf("asked for %s: %v; want ErrNoModule with its name", name, err)
		}
	}
}

func TestNoIndicesIsAnError(t *testing.T) {
	if _, err := initramfs.ReadModules(t.TempDir()); err == nil {
		t.Error("a folder without modules.dep was taken for a kernel's")
	}
}

func TestArchiveHoldsModulesAndTheirOrder(t *testing.T) {
	dir := kernelTree(t)
	var got, want initramfs.Archive
	got.Modules(readModules(t, dir), "jbd2", "tpm_tis")
	want.File("lib/modules/6.1.0-test/kernel/fs/jbd2/jbd2.ko", 0o644, []byte("J"))
	want.File("lib/modules/6.1.0-test/kernel/lib/crc16.ko", 0o644, []byte("C"))
	want.File("lib/modules/load-order", 0o644, []byte("/lib/modules/6.1.0-test/kernel/lib/crc16.ko\n/lib/modules/6.1.0-test/kernel/fs/jbd2/jbd2.ko\n"))
	if !bytes.Equal(mustBytes(t, &got), mustBytes(t, &want)) {
		t.Error("the archive is not the one put together by hand")
	}
}
