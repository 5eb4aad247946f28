package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/internal/bootentry"
	"github.com/antievilmaid/aem/tpm"
)

// policyFile is the owner's policy, on the disk that stage 1 starts from.
const policyFile = "launch.policy"

// newPolicyKey makes a key: the owner's, which is on no machine of the story, or the
// evil maid's.
func newPolicyKey() ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	defer clear(seed)
	rand.Read(seed) // which never fails (crypto/rand)
	return ed25519.NewKeyFromSeed(seed)
}

// signedPolicy approves of what GRUB's menu in a folder starts, read as stage 1 reads it.
func signedPolicy(dir, uuid string, key ed25519.PrivateKey) ([]byte, error) {
	menu, err := bootentry.Read(bootentry.Options{Filesystems: []bootentry.Filesystem{{Dir: dir, UUID: uuid}}, Platform: "pc", CPU: "i386"})
	if err != nil {
		return nil, fmt.Errorf("sign the policy: %w", err)
	}
	e, err := menu.Find("default")
	if err != nil {
		return nil, fmt.Errorf("sign the policy: %w", err)
	}
	b, err := aem.BootOf(menu, e, nil)
	if err != nil {
		return nil, fmt.Errorf("sign the policy: %w", err)
	}
	approved, err := launch.Approve("Xen", &drtm.Stage{Kind: b.Kind, Image: b.Image, Line: b.Line, Initrd: b.Initrd, Modules: b.Modules}, tpm.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign the policy: %w", err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	p := launch.Policy{Version: 1, Issued: now.AddDate(0, 0, -1), Expires: now.AddDate(0, 0, 30), Hash: "sha256", Approved: []launch.Approved{approved}}
	return p.Sign(key)
}

// resigned is the evil maid's: the same policy, with a key of hers.
func resigned(file []byte) ([]byte, error) {
	owner, err := launch.PolicyKey(file)
	if err != nil {
		return nil, err
	}
	p, err := launch.ReadPolicy(file, owner)
	if err != nil {
		return nil, err
	}
	return p.Sign(newPolicyKey())
}
