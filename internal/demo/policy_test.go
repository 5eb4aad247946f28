package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/internal/testbed"
)

// The owner's policy names all that the menu starts. The evil maid's says the same, and
// differs in who signed it alone.
func TestPolicyOfTheStory(t *testing.T) {
	dir := t.TempDir()
	initrd, err := packed([]byte("an initramfs"))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"xen.gz": []byte("xen"), "vmlinuz": testbed.BzImage("dom0"), "initrd.img": initrd, "grub/grub.cfg": fmt.Appendf(nil, menu, "0a1b-2c3d"),
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	key := newPolicyKey()
	good, err := signedPolicy(dir, "0a1b-2c3d", key)
	if err != nil {
		t.Fatal(err)
	}
	p, err := launch.ReadPolicy(good, key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	// The outline; Xen, its line; dom0's kernel, its line; the initramfs, its line.
	if len(p.Approved) != 1 || len(p.Approved[0].Parts) != 7 {
		t.Errorf("it approves of %+v", p.Approved)
	}
	evil, err := resigned(good)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := launch.ReadPolicy(evil, key.Public().(ed25519.PublicKey)); !errors.Is(err, launch.ErrWrongKey) {
		t.Errorf("hers: %v", err)
	}
	hers, err := launch.PolicyKey(evil)
	if err != nil {
		t.Fatal(err)
	}
	if q, err := launch.ReadPolicy(evil, hers); err != nil || len(q.Approved) != 1 || len(q.Approved[0].Parts) != len(p.Approved[0].Parts) {
		t.Errorf("hers approves of %+v (%v)", q, err)
	}
}
