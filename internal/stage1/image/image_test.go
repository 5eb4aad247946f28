package image_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/internal/initramfs"
	"github.com/antievilmaid/aem/internal/stage1/config"
	"github.com/antievilmaid/aem/internal/stage1/image"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/internal/unpack"
)

var boot = config.Mount{Disk: "UUID=0a1b-2c3d", Folder: "/boot"}

func program(t *testing.T, pkg string) []byte {
	t.Helper()
	b, err := testbed.Program(pkg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// kernelModules is a kernel with two modules, one of which needs the other.
func kernelModules(t *testing.T) *initramfs.Modules {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "6.1.0-test")
	for name, content := range map[string]string{
		"modules.dep": "disk.ko: bus.ko\nbus.ko:\nother.ko:\n", "modules.builtin": "tpm_tis.ko\n",
		"disk.ko": strings.Repeat("D", 100), "bus.ko": "B", "other.ko": "O",
	} {
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	m, err := initramfs.ReadModules(dir)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// policed is an image of which a policy on the disk has to approve.
func policed(t *testing.T) image.Options {
	o := options(t)
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	o.Policy, o.PolicyKey = &config.Policy{File: "/boot/launch.policy", Oldest: 3}, launch.PublicKeyFile(key.Public().(ed25519.PublicKey))
	return o
}

// The key, and what is demanded, are in what the launch measures; the policy is not.
func TestThePolicyIsDemandedByWhatIsMeasured(t *testing.T) {
	o := policed(t)
	im, err := image.Build(o)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := unpack.Read(im.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	told, err := json.Marshal(o.Config)
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string][32]byte{}
	for _, f := range tree.Files {
		sums["/"+f.Path] = f.Sum
	}
	if sums[config.PolicyKeyPath] != sha256.Sum256(o.PolicyKey) {
		t.Error("another key is in it, or none")
	}
	if sums[config.Path] != sha256.Sum256(told) {
		t.Errorf("it is not told %s", told)
	}
	if _, ok := sums[o.Policy.File]; ok {
		t.Error("the policy is in it")
	}
}

func options(t *testing.T) image.Options {
	return image.Options{
		Config: config.Config{Mounts: []config.Mount{boot}}, Program: program(t, "./cmd/aem"),
		Description: []byte(`{"kernel": {"file": "/boot/vmlinuz"}}`),
		Modules:     kernelModules(t), Load: []string{"disk", "tpm_tis"},
	}
}

// What the kernel would unpack is this and nothing else, and what is reported is that.
func TestWhatIsInIt(t *testing.T) {
	o := options(t)
	im, err := image.Build(o)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := unpack.Read(im.Bytes)
	if err != nil || len(tree.Hidden) > 0 || len(tree.Doubts) > 0 {
		t.Fatal(err, tree)
	}
	var names []string
	sizes := map[string]int{}
	for _, f := range tree.Files {
		if f.Mode&0o170000 == 0o100000 {
			names = append(names, "/"+f.Path)
			sizes["/"+f.Path] = int(f.Size)
		}
		if f.UID != 0 || f.GID != 0 {
			t.Errorf("%s belongs to %d:%d", f.Path, f.UID, f.GID)
		}
	}
	want := []string{
		"/etc/aem/launch.json", "/etc/aem/stage1.json", "/init",
		"/lib/modules/6.1.0-test/bus.ko", "/lib/modules/6.1.0-test/disk.ko", "/lib/modules/load-order",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("files (-want +got)\n%s", diff)
	}
	reported := map[string]int{}
	for _, f := range im.Files {
		reported[f.Path] = f.Size
	}
	if diff := cmp.Diff(sizes, reported); diff != "" {
		t.Errorf("sizes (-in it +reported)\n%s", diff)
	}
	if sizes["/init"] != len(o.Program) {
		t.Error("the first process is another program")
	}
}

func TestItIsReproducible(t *testing.T) {
	a, err := image.Build(options(t))
	if err != nil {
		t.Fatal(err)
	}
	b, err := image.Build(options(t)) // its modules lie in another folder, with other times
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a.Bytes, b.Bytes) {
		t.Error("two builds of the same things differ")
	}
}

// The bound is on what is not the kernel's.
func TestSize(t *testing.T) {
	with := options(t)
	without := with
	without.Load = nil
	a, err := image.Build(with)
	if err != nil {
		t.Fatal(err)
	}
	b, err := image.Build(without)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes without kernel modules", a.Bare)
	if a.Bare != len(b.Bytes) || a.Bare >= len(a.Bytes) || a.Bare > image.MaxBare {
		t.Errorf("%d bytes without modules, said %d, with them %d", len(b.Bytes), a.Bare, len(a.Bytes))
	}
}

func TestWhatIsRefused(t *testing.T) {
	for name, x := range map[string]struct {
		change func(*image.Options)
		want   error
	}{
		"nothing to start": {func(o *image.Options) { o.Description = nil }, config.ErrConfig},
		"two things":       {func(o *image.Options) { o.Entry = "default" }, config.ErrConfig},
		"a menu that is not there": {func(o *image.Options) {
			o.Description, o.Entry, o.Mounts = nil, "default", []config.Mount{{Disk: "/dev/vda", Folder: "/other"}}
		}, config.ErrConfig},
		"a file that is on no disk": {func(o *image.Options) { o.Mounts = nil }, image.ErrNowhere},
		"an initramfs that is not": {func(o *image.Options) {
			o.Description = []byte(`{"kernel": {"file": "/boot/vmlinuz"}, "initrd": {"file": "/bootx/initrd"}}`)
		}, image.ErrNowhere},
		"a hypervisor that is not": {func(o *image.Options) {
			o.Description = []byte(`{"hypervisor": {"file": "/xen"}, "kernel": {"file": "/boot/vmlinuz"}}`)
		}, image.ErrNowhere},
		"no description":         {func(o *image.Options) { o.Description = []byte("{}x") }, launch.ErrDescription},
		"two disks":              {func(o *image.Options) { o.Mounts = append(o.Mounts, boot) }, config.ErrConfig},
		"over its own":           {func(o *image.Options) { o.Mounts[0].Folder = "/etc/aem" }, config.ErrConfig},
		"over everything":        {func(o *image.Options) { o.Mounts[0].Folder = "/" }, config.ErrConfig},
		"a disk by no name":      {func(o *image.Options) { o.Mounts[0].Disk = "sda1" }, config.ErrConfig},
		"a module too few":       {func(o *image.Options) { o.Load = []string{"none"} }, initramfs.ErrNoModule},
		"a policy without a key": {func(o *image.Options) { o.Policy = &config.Policy{File: "/boot/policy"} }, config.ErrConfig},
		"a key without a policy": {func(o *image.Options) { o.PolicyKey = policed(t).PolicyKey }, config.ErrConfig},
		"a policy on no disk":    {func(o *image.Options) { *o = policed(t); o.Policy.File = "/launch.policy" }, image.ErrNowhere},
		"a key that is none":     {func(o *image.Options) { *o = policed(t); o.PolicyKey = []byte("key") }, launch.ErrKey},
		"no program":             {func(o *image.Options) { o.Program = []byte("#!/bin/sh") }, image.ErrProgram},
		"another program":        {func(o *image.Options) { o.Program = program(t, "./cmd/drtmsim") }, image.ErrProgram},
		"one with libraries":     {func(o *image.Options) { o.Program = dynamic(t) }, image.ErrProgram},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t)
			o.Mounts = slices.Clone(o.Mounts)
			x.change(&o)
			if im, err := image.Build(o); im != nil || !errors.Is(err, x.want) {
				t.Errorf("%v, want %v", err, x.want)
			}
		})
	}
}

// dynamic is a program that needs the machine's libraries.
func dynamic(t *testing.T) []byte {
	t.Helper()
	path, err := exec.LookPath("mke2fs")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
