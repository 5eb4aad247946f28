package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/internal/stage1"
	"github.com/antievilmaid/aem/tpm"
)

// offline is a folder of an owner's offline machine: what is to be launched, and a key.
func offline(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"vmlinuz": "kernel", "initrd": "initramfs",
		"linux.json": `{"kernel": {"file": "/vmlinuz", "line": "quiet"}, "initrd": {"file": "/initrd"}, "measure": {"files": ["/vmlinuz"]}}`,
		"bare.json":  `{"kernel": {"file": "/vmlinuz", "line": "single"}}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, aem.ExitOK, "signs policies", "policy", "key", filepath.Join(dir, "key"))
	return dir
}

func run(t *testing.T, want aem.Exit, says string, args ...string) string {
	t.Helper()
	exit, out := capture(t, "", args)
	if exit != want || !strings.Contains(out, says) {
		t.Errorf("%q: exit %d, want %d and %q: %s", args, exit, want, says, out)
	}
	return out
}

// What is signed is what a launch of the same files measures, and the key stays secret.
func TestSignPolicy(t *testing.T) {
	dir := offline(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	sign := func(more ...string) []string {
		return append([]string{"policy", "sign", at("policy"), "--key", at("key"), "--root", dir, "--approve", "Linux=" + at("linux.json")}, more...)
	}
	run(t, aem.ExitOK, "is version 1", sign()...)
	run(t, aem.ExitOK, "is version 2", sign("--approve", "rescue="+at("bare.json"), "--days", "30", "--hash", "sha384")...)

	b, err := os.ReadFile(at("key.pub"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := launch.ParsePublicKey(b)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(at("policy"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := launch.ReadPolicy(file, public)
	if err != nil {
		t.Fatal(err)
	}
	if d := p.Expires.Sub(p.Issued); p.Version != 2 || d != 30*24*time.Hour || p.Holds(time.Now(), 2) != nil {
		t.Errorf("version %d, for %s, holds: %v", p.Version, d, p.Holds(time.Now(), 2))
	}
	for name, label := range map[string]string{"linux.json": "Linux", "bare.json": "rescue"} {
		stage, err := stage1.ReadDescribed(at(name), dir)
		if err != nil {
			t.Fatal(err)
		}
		ms, err := stage.Measurements([]tpm.Alg{tpm.SHA256, tpm.SHA384})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Lists(ms); got != label {
			t.Errorf("%s is listed as %q, %v", name, got, err)
		}
	}
	if secret, err := os.ReadFile(at("key")); err != nil || bytes.Contains(file, bytes.Fields(secret)[6]) {
		t.Errorf("the secret key is in the policy, or gone: %v", err)
	}
	if info, err := os.Stat(at("key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the secret key: %v, %v", info.Mode(), err)
	}
}

func TestShowPolicy(t *testing.T) {
	dir := offline(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	run(t, aem.ExitOK, "", "policy", "sign", at("policy"), "--key", at("key"), "--root", dir, "--approve", "Linux="+at("linux.json"))
	run(t, aem.ExitOK, "IS NOT CHECKED", "policy", "show", at("policy"))
	var x shownPolicy
	if err := json.Unmarshal([]byte(run(t, aem.ExitOK, "", "policy", "show", at("policy"), "--key", at("key.pub"), "--json")), &x); err != nil || !x.Verified || len(x.Policy.Approved[0].Parts) != 5 {
		t.Errorf("%+v, %v", x, err)
	}
	run(t, aem.ExitOK, "", "policy", "key", at("other"))
	run(t, aem.ExitError, "another key", "policy", "show", at("policy"), "--key", at("other.pub"))
	run(t, aem.ExitError, "no key", "policy", "show", at("policy"), "--key", at("other"))

	b, err := os.ReadFile(at("key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := launch.ParseSecretKey(b)
	if err != nil {
		t.Fatal(err)
	}
	old := *x.Policy
	old.Issued, old.Expires = old.Issued.AddDate(-2, 0, 0), old.Expires.AddDate(-2, 0, 0)
	if b, err = old.Sign(key); err == nil {
		err = os.WriteFile(at("old"), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	run(t, aem.ExitMeasurements, "expired", "policy", "show", at("old"), "--key", at("key.pub"))
}

// No key and no policy is lost, none is taken that others know, and versions only grow.
func TestPoliciesThatAreNotSigned(t *testing.T) {
	dir := offline(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	sign := func(key string, more ...string) []string {
		return append([]string{"policy", "sign", at("policy"), "--key", at(key), "--root", dir, "--approve", "Linux=" + at("linux.json")}, more...)
	}
	run(t, aem.ExitError, "exists", "policy", "key", at("key"))
	run(t, aem.ExitOK, "", sign("key", "--version", "7")...)
	run(t, aem.ExitError, "older", sign("key", "--version", "7")...)
	run(t, aem.ExitOK, "", "policy", "key", at("other"))
	run(t, aem.ExitError, "another key", sign("other")...)
	for name, mode := range map[string]os.FileMode{"key.pub": 0o600, "other": 0o640} {
		if err := os.Chmod(at(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	run(t, aem.ExitError, "no key", sign("key.pub")...)
	run(t, aem.ExitError, "others", sign("other")...)
	run(t, aem.ExitError, "sha1", sign("key", "--hash", "sha1")...)
	run(t, aem.ExitError, "no such file", sign("key", "--approve", "x="+at("none.json"))...)
	for _, args := range [][]string{{}, {"--key", at("key")}, {"--approve", "x=y"}, {"--key", at("key"), "--approve", "x"}, {"--key", at("key"), "--approve", "x=y", "--days", "0"}} {
		run(t, aem.ExitUsage, "", append([]string{"policy", "sign", at("new")}, args...)...)
	}
	if _, err := os.Stat(at("new")); err == nil {
		t.Error("a policy was written all the same")
	}
	if out := run(t, aem.ExitOK, "Version 7", "policy", "show", at("policy"), "--key", at("key.pub")); !strings.Contains(out, "Linux:") {
		t.Error("the policy is another one now")
	}
	if err := os.WriteFile(at("half.pub"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, aem.ExitError, "exists", "policy", "key", at("half"))
	if _, err := os.Stat(at("half")); err == nil {
		t.Error("half a key was left")
	}
}
