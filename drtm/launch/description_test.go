package launch_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/drtm/launch"
)

const xenDescription = `{
	"hypervisor": {"file": "/boot/xen.gz", "line": "dom0_mem=1G"},
	"kernel": {"file": "/boot/vmlinuz", "line": "root=/dev/vg/root", "size": 8000000},
	"initrd": {"file": "/boot/initrd", "packed": true},
	"modules": [{"file": "/boot/policy"}],
	"measure": {"files": ["/etc/crypttab"], "devices": ["/dev/sda1"], "cpu": true, "smbios": true}
}`

const linuxDescription = `{"kernel": {"file": "/boot/vmlinuz", "line": "quiet"}, "initrd": {"file": "/boot/initrd"}}`

func TestDescription(t *testing.T) {
	got, err := launch.ParseDescription([]byte(xenDescription))
	if err != nil {
		t.Fatal(err)
	}
	want := &launch.Description{
		Hypervisor: &launch.File{Path: "/boot/xen.gz", Line: "dom0_mem=1G"},
		Kernel:     launch.File{Path: "/boot/vmlinuz", Line: "root=/dev/vg/root", Size: 8000000},
		Initrd:     &launch.File{Path: "/boot/initrd", Packed: true},
		Modules:    []launch.File{{Path: "/boot/policy"}},
		Measure:    launch.Measure{Files: []string{"/etc/crypttab"}, Devices: []string{"/dev/sda1"}, CPU: true, SMBIOS: true},
	}
	if diff := cmp.Diff(want, got); diff != "" || got.Kind() != drtm.Xen {
		t.Errorf("%s (-want +got)\n%s", got.Kind(), diff)
	}
	if got, err = launch.ParseDescription([]byte(linuxDescription)); err != nil || got.Kind() != drtm.Linux {
		t.Error(got, err)
	}
}

func TestDescriptionsThatAreRefused(t *testing.T) {
	for name, x := range map[string]struct{ text, says string }{
		"nothing":             {" ", "empty"},
		"cut off":             {`{"kernel": {"file": "/k"`, "breaks off"},
		"null":                {`null`, "null"},
		"a list":              {`[]`, "cannot unmarshal array"},
		"no kernel":           {`{}`, "the file of the kernel: none is named"},
		"unknown key":         {`{"kernel": {"file": "/k"}, "kernal": 1}`, `unknown field "kernal"`},
		"twice":               {`{"kernel": {"file": "/k"}, "kernel": {"file": "/evil"}}`, `"kernel" twice`},
		"twice, further down": {`{"kernel": {"file": "/k", "line": "a", "line": "b"}}`, `"line" twice`},
		"other letters":       {`{"Kernel": {"file": "/k"}}`, `"Kernel" is no key`},
		"other alphabet":      {`{"` + "\u212a" + `ernel": {"file": "/k"}}`, "is no key"},
		"something behind":    {`{"kernel": {"file": "/k"}} {}`, "follows its end"},
		"not UTF-8":           {"{\"kernel\": {\"file\": \"/\xff\"}}", "not UTF-8"},
		"relative":            {`{"kernel": {"file": "boot/k"}}`, "does not begin with a slash"},
		"control":             {`{"kernel": {"file": "/k\u0000"}}`, "control character"},
		"line with newline":   {`{"kernel": {"file": "/k", "line": "a\nb"}}`, "control character"},
		"negative":            {`{"kernel": {"file": "/k", "size": -1}}`, "negative"},
		"initrd's line":       {`{"kernel": {"file": "/k"}, "initrd": {"file": "/i", "line": "x"}}`, "Linux would not read"},
		"modules of Linux":    {`{"kernel": {"file": "/k"}, "modules": [{"file": "/m"}]}`, "no hypervisor"},
		"modules, no initrd":  {`{"hypervisor": {"file": "/x"}, "kernel": {"file": "/k"}, "modules": [{"file": "/m"}]}`, "first of them"},
		"measured nothing":    {`{"kernel": {"file": "/k"}, "measure": {"files": [""]}}`, "none is named"},
		"measured device":     {`{"kernel": {"file": "/k"}, "measure": {"devices": ["sda"]}}`, "slash"},
		"too deep":            {strings.Repeat("[", 20) + strings.Repeat("]", 20), "too deeply"},
		"too long":            {linuxDescription + strings.Repeat(" ", launch.MaxDescription), "are allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := launch.ParseDescription([]byte(x.text))
			if !errors.Is(err, launch.ErrDescription) || !strings.Contains(err.Error(), x.says) {
				t.Errorf("%+v, %v; want an error that says %q", d, err, x.says)
			}
		})
	}
}

// What is taken can be written down again and says the same.
func FuzzDescription(f *testing.F) {
	for _, s := range []string{xenDescription, linuxDescription} {
		if _, err := launch.ParseDescription([]byte(s)); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(s))
	}
	for _, s := range []string{`{"kernel":{"file":"/k","line":"ſ"},"measure":{}}`, `{"kernel":{"file":"/k"},"kernel":{}}`, `{"modules":null}`, `{"a":{"a":1},"b":[{"a":2}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := launch.ParseDescription(b)
		if err != nil {
			if !errors.Is(err, launch.ErrDescription) || d != nil {
				t.Fatalf("%+v, %v", d, err)
			}
			return
		}
		again, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if len(again) > launch.MaxDescription {
			return // escapes made it longer
		}
		same, err := launch.ParseDescription(again)
		if err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		if a, err := json.Marshal(same); err != nil || string(a) != string(again) {
			t.Errorf("%s became %s, %v", again, a, err)
		}
	})
}
