package stage1_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/stage1"
)

// What the kernel is given holds the bytes, can't be changed any more, and is open for
// writing nowhere, which kexec_file_load(2) demands.
func TestMemoryFile(t *testing.T) {
	f, err := stage1.MemoryFile("kernel", []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); err != nil || string(b) != "content" {
		t.Errorf("%q, %v", b, err)
	}
	if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_ACCMODE != unix.O_RDONLY {
		t.Errorf("its flags are %#x, %v", flags, err)
	}
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if want := unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE; err != nil || seals != want {
		t.Errorf("its seals are %#x, %v; want %#x", seals, err, want)
	}
}

// The log goes with the initramfs; nothing else of what was measured is touched, and
// what was measured itself stays as it was for who hashes it afterwards.
func TestWhereTheLogGoes(t *testing.T) {
	log := []byte("log")
	with := func(initrd string) []byte {
		b, err := stage1.WithLog([]byte(initrd), log)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	module := func(s string) drtm.Module { return drtm.Module{Content: []byte(s), Line: s} }
	for name, x := range map[string]struct{ stage, want drtm.Stage }{
		"linux":              {drtm.Stage{Kind: drtm.Linux, Image: []byte("k"), Initrd: []byte("i")}, drtm.Stage{Kind: drtm.Linux, Image: []byte("k"), Initrd: with("i")}},
		"linux alone":        {drtm.Stage{Kind: drtm.Linux, Image: []byte("k")}, drtm.Stage{Kind: drtm.Linux, Image: []byte("k"), Initrd: with("")}},
		"xen":                {drtm.Stage{Kind: drtm.Xen, Modules: []drtm.Module{module("k"), module("i"), module("m")}}, drtm.Stage{Kind: drtm.Xen, Modules: []drtm.Module{module("k"), {Content: with("i"), Line: "i"}, module("m")}}},
		"xen without initrd": {drtm.Stage{Kind: drtm.Xen, Modules: []drtm.Module{module("k")}}, drtm.Stage{Kind: drtm.Xen, Modules: []drtm.Module{module("k"), {Content: with("")}}}},
	} {
		t.Run(name, func(t *testing.T) {
			modules := len(x.stage.Modules)
			got, err := stage1.HandOver(&x.stage, log)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&x.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if len(x.stage.Modules) != modules || modules > 1 && string(x.stage.Modules[1].Content) != "i" {
				t.Error("the stage itself was changed")
			}
		})
	}
	if _, err := stage1.HandOver(&drtm.Stage{Kind: drtm.Xen}, log); !errors.Is(err, drtm.ErrTarget) {
		t.Error(err)
	}
}

// Xen would call a BIOS that is not there, and never say so.
func TestXenUnderUEFINeedsNoRealMode(t *testing.T) {
	s := &drtm.Stage{Kind: drtm.Xen, Image: []byte("x"), Line: "edd=off no-real-modes", Modules: []drtm.Module{{}}}
	err := stage1.Loader{EFI: true}.Load(s, nil)
	if !errors.Is(err, stage1.ErrUEFI) || !strings.Contains(err.Error(), "give it no-real-mode") {
		t.Error(err)
	}
}
