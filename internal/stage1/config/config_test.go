package config_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/stage1/config"
)

var boot = config.Mount{Disk: "UUID=0a1b-2c3d", Folder: "/boot"}

func TestParseMount(t *testing.T) {
	for in, want := range map[string]config.Mount{
		"UUID=0a1b-2c3d:/boot":                  boot,
		"/dev/disk/by-path/pci-0000:00:1:/boot": {Disk: "/dev/disk/by-path/pci-0000:00:1", Folder: "/boot"},
	} {
		if got, err := config.ParseMount(in); got != want || err != nil {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "/dev/vda", "UUID=:/boot", "/dev/vda:boot", "/dev/vda:/boot/", "/dev/vda:/sys", "/dev/vda:/x/../etc"} {
		if _, err := config.ParseMount(in); !errors.Is(err, config.ErrConfig) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func TestParse(t *testing.T) {
	want := config.Config{Mounts: []config.Mount{boot}, Entry: "default", Policy: &config.Policy{File: "/boot/launch.policy", Oldest: 7, LaunchUnapproved: true}}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := config.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Error(diff)
	}
	for _, in := range []string{"", "{", `{"shell": true}`, `{"entry": "x"}`, `{"policy": {"file": ""}}`, `{"policy": {"file": "boot/policy"}}`, `{"policy": {"file": "/boot/../policy"}}`} {
		if _, err := config.Parse([]byte(in)); !errors.Is(err, config.ErrConfig) {
			t.Errorf("%q: %v", in, err)
		}
	}
}
