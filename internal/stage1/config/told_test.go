package config_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/initramfs"
	"github.com/antievilmaid/aem/internal/stage1/config"
)

var whole = config.Told{
	Config:      config.Config{Mounts: []config.Mount{boot}, Policy: &config.Policy{File: "/boot/launch.policy", Oldest: 7}},
	Description: []byte("a description"), PolicyKey: []byte("a key"),
}

// image is an initramfs that says what is told.
func image(t testing.TB, told config.Told, more func(*initramfs.Archive)) *initramfs.Archive {
	t.Helper()
	b, err := json.Marshal(told.Config)
	if err != nil {
		t.Fatal(err)
	}
	a := &initramfs.Archive{}
	a.File(config.Init, 0o755, []byte("the program"))
	a.File("lib/modules/x.ko", 0o644, []byte("a module"))
	for path, content := range map[string][]byte{config.Path: b, config.DescriptionPath: told.Description, config.PolicyKeyPath: told.PolicyKey} {
		if content != nil {
			a.File(path, 0o644, content)
		}
	}
	if more != nil {
		more(a)
	}
	return a
}

func plain(t testing.TB, a *initramfs.Archive) []byte {
	t.Helper()
	b, err := a.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func packed(t testing.TB, a *initramfs.Archive) []byte {
	t.Helper()
	b, err := a.Gzip()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func join(parts ...[]byte) []byte {
	var all []byte
	for _, p := range parts {
		for len(all)%4 != 0 {
			all = append(all, 0)
		}
		all = append(all, p...)
	}
	return all
}

func TestReadTold(t *testing.T) {
	older := whole
	older.Description = []byte("an older one")
	var microcode initramfs.Archive
	microcode.File("kernel/x86/microcode/GenuineIntel.bin", 0o644, []byte("microcode"))
	for name, b := range map[string][]byte{
		"packed":                packed(t, image(t, whole, nil)),
		"as it is":              plain(t, image(t, whole, nil)),
		"behind microcode":      join(plain(t, &microcode), packed(t, image(t, whole, nil))),
		"the last one counts":   join(packed(t, image(t, older, nil)), plain(t, image(t, whole, nil))),
		"zeros behind":          append(packed(t, image(t, whole, nil)), make([]byte, 7)...),
		"two in one compressed": gzipped(t, join(plain(t, image(t, older, nil)), make([]byte, 512), plain(t, image(t, whole, nil)))),
	} {
		got, err := config.ReadTold(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(&whole, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestInitramfsThatSaysNothing(t *testing.T) {
	var system initramfs.Archive
	system.File("init", 0o755, []byte("the system's"))
	good := plain(t, image(t, whole, nil))
	// The header of the file that is told begins with the file's name behind it.
	name := bytes.Index(good, []byte("etc/aem/stage1.json\x00"))
	link := bytes.Clone(good)
	copy(link[name-110+6+8:], "0000A1FF")
	twice := bytes.Clone(good)
	copy(twice[name-110+6+4*8:], "00000002")
	keyless := whole
	keyless.PolicyKey = nil
	both := whole
	both.Entry = "default"
	for name, x := range map[string]struct {
		initramfs []byte
		want      error
	}{
		"nothing":               {nil, config.ErrNoStage},
		"the system's":          {packed(t, &system), config.ErrNoStage},
		"compressed as zstd":    {[]byte("\x28\xb5\x2f\xfd...."), config.ErrNoStage},
		"no archive":            {[]byte("0707"), config.ErrNoStage},
		"cut behind it":         {good[:len(good)-200], config.ErrArchive},
		"something behind it":   {append(packed(t, image(t, whole, nil)), "xz"...), config.ErrArchive},
		"a link":                {link, config.ErrNoStage},
		"a link behind it":      {join(good, link), config.ErrArchive},
		"a second name":         {join(good, twice), config.ErrArchive},
		"a number that is none": {join(good, bytes.Replace(good, []byte("070701"), []byte("07070x"), 1)), config.ErrArchive},
		"no key":                {packed(t, image(t, keyless, nil)), config.ErrConfig},
		"both":                  {packed(t, image(t, both, nil)), config.ErrConfig},
	} {
		if _, err := config.ReadTold(x.initramfs); !errors.Is(err, x.want) {
			t.Errorf("%s: %v, want %v", name, err, x.want)
		}
	}
	var unknown initramfs.Archive
	unknown.File(config.Path, 0o644, []byte(`{"shell": true}`))
	if _, err := config.ReadTold(packed(t, &unknown)); !errors.Is(err, config.ErrConfig) {
		t.Errorf("an unknown key: %v", err)
	}
}

func FuzzReadTold(f *testing.F) {
	f.Add(plain(f, image(f, whole, nil)))
	f.Add(packed(f, image(f, whole, nil)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if told, err := config.ReadTold(b); err == nil && told.Check() != nil {
			t.Error("what stage 1 can't be told was read")
		}
	})
}
