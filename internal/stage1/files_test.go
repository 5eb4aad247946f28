package stage1_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/internal/stage1"
	"github.com/antievilmaid/aem/tpm"
)

var twoBanks = []tpm.Alg{tpm.SHA1, tpm.SHA256}

// folder is a root with files in it.
func folder(t *testing.T, files map[string]string) string {
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

func zipped(t *testing.T, s string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestReadLinux(t *testing.T) {
	root := folder(t, map[string]string{"boot/k": "kernel", "boot/i": zipped(t, "initramfs")})
	s, err := stage1.Read(&launch.Description{
		Kernel: launch.File{Path: "/boot/k", Line: "quiet", Size: 6}, Initrd: &launch.File{Path: "/boot/i"},
	}, stage1.Below(root))
	if err != nil {
		t.Fatal(err)
	}
	want := &drtm.Stage{Kind: drtm.Linux, Image: []byte("kernel"), Line: "quiet", Initrd: []byte(zipped(t, "initramfs"))}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// What a loader would unpack is unpacked before it is measured; what the kernel of dom0
// unpacks, and what is to stay packed, is not.
func TestReadXen(t *testing.T) {
	root := folder(t, map[string]string{"x": zipped(t, "xen"), "k": "kernel", "i": zipped(t, "initramfs"), "m": zipped(t, "module")})
	s, err := stage1.Read(&launch.Description{
		Hypervisor: &launch.File{Path: "/x", Line: "dom0_mem=1G"}, Kernel: launch.File{Path: "/k", Line: "root=/dev/x"},
		Initrd: &launch.File{Path: "/i"}, Modules: []launch.File{{Path: "/m", Line: "one"}, {Path: "/m", Packed: true}},
	}, stage1.Below(root))
	if err != nil {
		t.Fatal(err)
	}
	want := &drtm.Stage{Kind: drtm.Xen, Image: []byte("xen"), Line: "dom0_mem=1G", Modules: []drtm.Module{
		{Content: []byte("kernel"), Line: "root=/dev/x"}, {Content: []byte(zipped(t, "initramfs"))},
		{Content: []byte("module"), Line: "one"}, {Content: []byte(zipped(t, "module"))},
	}}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	root := folder(t, map[string]string{"k": "kernel", "cut": zipped(t, "xen")[:20], "more": zipped(t, "xen") + "more", "folder/x": ""})
	if f, err := os.OpenFile(filepath.Join(root, "huge"), os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
		t.Fatal(err)
	} else if err := errors.Join(f.Truncate(stage1.MaxLoaded+1), f.Close()); err != nil {
		t.Fatal(err)
	}
	file := func(path string) launch.File { return launch.File{Path: path} }
	xen := func(path string) launch.Description {
		f := file(path)
		return launch.Description{Hypervisor: &f, Kernel: file("/k")}
	}
	for name, x := range map[string]struct {
		d    launch.Description
		want error
	}{
		"missing":          {launch.Description{Kernel: file("/none")}, fs.ErrNotExist},
		"missing module":   {launch.Description{Hypervisor: &launch.File{Path: "/k"}, Kernel: file("/none")}, fs.ErrNotExist},
		"another size":     {launch.Description{Kernel: launch.File{Path: "/k", Size: 7}}, stage1.ErrSize},
		"cut off":          {xen("/cut"), stage1.ErrPacked},
		"something behind": {xen("/more"), stage1.ErrPacked},
		"too large":        {xen("/huge"), stage1.ErrTooLarge},
		"a folder":         {launch.Description{Kernel: file("/folder")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := stage1.Read(&x.d, stage1.Below(root))
			if s != nil || err == nil || x.want != nil && !errors.Is(err, x.want) {
				t.Errorf("%+v, %v", s, err)
			}
		})
	}
}

const cpu = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmicrocode\t: 0xf0\ncpu MHz\t\t: 800\n\nprocessor\t: 1\nvendor_id\t: Other\n"

func TestFacts(t *testing.T) {
	root := folder(t, map[string]string{
		"k": "kernel", "etc/crypttab": "table", "proc/cpuinfo": cpu,
		"sys/firmware/dmi/tables/smbios_entry_point": "entry", "sys/firmware/dmi/tables/DMI": "tables",
	})
	s, err := stage1.Read(&launch.Description{
		Kernel: launch.File{Path: "/k"}, Measure: launch.Measure{Files: []string{"/etc/crypttab"}, CPU: true, SMBIOS: true},
	}, stage1.Below(root))
	if err != nil {
		t.Fatal(err)
	}
	var got [][]tpm.TaggedDigest
	for _, f := range s.Facts {
		d, err := f.Sum(twoBanks)
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		got = append(got, d)
	}
	var want [][]tpm.TaggedDigest
	for _, text := range []string{"table", "vendor_id: GenuineIntel\ncpu family: 6\nmicrocode: 0xf0\n", "entrytables"} {
		want = append(want, tpm.SumAll(twoBanks, []byte(text)))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestFactsThatCanNotBeRead(t *testing.T) {
	root := folder(t, map[string]string{"k": "kernel", "proc/cpuinfo": "nothing\n"})
	s, err := stage1.Read(&launch.Description{
		Kernel: launch.File{Path: "/k"}, Measure: launch.Measure{Files: []string{"/none", "/proc"}, Devices: []string{"/k"}, CPU: true, SMBIOS: true},
	}, stage1.Below(root))
	if err != nil {
		t.Fatal(err)
	}
	says := []string{"no such file", "no regular file", "no block device", "what CPU", "no such file"}
	for i, f := range s.Facts {
		if d, err := f.Sum(twoBanks); d != nil || err == nil || !strings.Contains(err.Error(), says[i]) {
			t.Errorf("%s: %v, %v; want an error that says %q", f, d, err, says[i])
		}
	}
}
