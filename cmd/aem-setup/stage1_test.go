package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/internal/stage1/config"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/internal/unpack"
)

func TestStage1Build(t *testing.T) {
	dir := t.TempDir()
	program, err := testbed.Program("./cmd/aem")
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := testbed.FindKernel()
	if err != nil {
		t.Fatal(err)
	}
	aemFile, description, out := filepath.Join(dir, "aem"), filepath.Join(dir, "launch.json"), filepath.Join(dir, "stage1.img")
	for path, b := range map[string][]byte{aemFile: program, description: []byte(`{"kernel": {"file": "/boot/vmlinuz"}}`)} {
		if err := os.WriteFile(path, b, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"stage1", "build", "--json", "--aem", aemFile, "--describe", description, "--mount", "UUID=1b2c:/boot",
		"--modules", kernel.Modules, "--module", "ext4", "--out", out}
	var dry, wet stage1Report
	exit, said := capture(t, "", append(args, "--dry-run"))
	if exit != aem.ExitOK || json.Unmarshal([]byte(said), &dry) != nil {
		t.Fatalf("dry run: exit %d, %s", exit, said)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("--dry-run wrote a file")
	}
	exit, said = capture(t, "", args)
	if exit != aem.ExitOK || json.Unmarshal([]byte(said), &wet) != nil {
		t.Fatalf("exit %d, %s", exit, said)
	}
	written, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(written); !bytes.Equal(sum[:], wet.SHA256) || !bytes.Equal(sum[:], dry.SHA256) || len(written) != wet.Size || wet.Bare >= wet.Size {
		t.Errorf("%d bytes with %s were written; said %+v, and before %s", len(written), hex.EncodeToString(sum[:]), wet, dry.SHA256)
	}
	if exit, said := capture(t, "", append(args, "--describe", description+"x")); exit != aem.ExitError {
		t.Errorf("without its description: exit %d, %s", exit, said)
	}
	if exit, said := capture(t, "", append(args, "--uki", out+".efi", "--kernel", kernel.Image, "--stub", aemFile)); exit != aem.ExitError || !strings.Contains(said, "added to this stub") {
		t.Errorf("with a stub that is none: exit %d, %s", exit, said)
	}
	for _, usage := range [][]string{
		{"--out", out}, {"--entry", "x", "--describe", description, "--out", out}, {"--describe", description},
		{"--describe", description, "--uki", out}, {"--describe", description, "--out", out, "--kernel", kernel.Image},
		{"--describe", description, "--out", out, "--mount", "sda1"}, {"--entry", "default", "--aem", aemFile, "--out", out},
	} {
		if exit, said := capture(t, "", append([]string{"stage1", "build"}, usage...)); exit != aem.ExitUsage {
			t.Errorf("%q: exit %d, %s", usage, exit, said)
		}
	}
}

// What is demanded of a policy is in the initramfs that is written.
func TestStage1BuildWithAPolicy(t *testing.T) {
	dir := t.TempDir()
	program, err := testbed.Program("./cmd/aem")
	if err != nil {
		t.Fatal(err)
	}
	public := launch.PublicKeyFile(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey))
	aemFile, key, out := filepath.Join(dir, "aem"), filepath.Join(dir, "key.pub"), filepath.Join(dir, "stage1.img")
	for path, b := range map[string][]byte{aemFile: program, key: public} {
		if err := os.WriteFile(path, b, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"stage1", "build", "--aem", aemFile, "--entry", "default", "--mount", "/dev/vda:/boot", "--out", out}
	if exit, said := capture(t, "", append(args, "--policy", "/boot/launch.policy", "--policy-key", key, "--policy-oldest", "7", "--launch-unapproved")); exit != aem.ExitOK {
		t.Fatalf("exit %d, %s", exit, said)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := unpack.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	told, err := json.Marshal(config.Config{
		Mounts: []config.Mount{{Disk: "/dev/vda", Folder: "/boot"}}, Entry: "default",
		Policy: &config.Policy{File: "/boot/launch.policy", Oldest: 7, LaunchUnapproved: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	missing := map[string][32]byte{config.Path: sha256.Sum256(told), config.PolicyKeyPath: sha256.Sum256(public)}
	for _, f := range tree.Files {
		if want, ok := missing["/"+f.Path]; ok && f.Sum == want {
			delete(missing, "/"+f.Path)
		}
	}
	for path := range missing {
		t.Errorf("%s is not in it as it should be", path)
	}
	for _, usage := range [][]string{
		{"--policy", "/boot/launch.policy"}, {"--policy-key", key}, {"--policy", "", "--policy-key", ""}, {"--policy-oldest", "7"}, {"--launch-unapproved"},
		{"--policy", "launch.policy", "--policy-key", key},
	} {
		if exit, said := capture(t, "", append(args, usage...)); exit != aem.ExitUsage {
			t.Errorf("%q: exit %d, %s", usage, exit, said)
		}
	}
	for _, wrong := range [][]string{{"--policy", "/launch.policy", "--policy-key", key}, {"--policy", "/boot/launch.policy", "--policy-key", aemFile}} {
		if exit, said := capture(t, "", append(args, wrong...)); exit != aem.ExitError {
			t.Errorf("%q: exit %d, %s", wrong, exit, said)
		}
	}
}

func TestStage1BuildWarnsOfTheBIOS(t *testing.T) {
	for line, want := range map[string]bool{"console=vga": true, "console=vga no-real-mode": false, "no-real-mode=x": true} {
		notice := realModeNotice(fmt.Appendf(nil, `{"hypervisor": {"file": "/boot/xen", "line": %q}, "kernel": {"file": "/boot/k"}}`, line))
		if (notice != "") != want {
			t.Errorf("%s: %q", line, notice)
		}
	}
	if notice := realModeNotice([]byte(`{"kernel": {"file": "/boot/k"}}`)); notice != "" {
		t.Errorf("without Xen: %s", notice)
	}
}
