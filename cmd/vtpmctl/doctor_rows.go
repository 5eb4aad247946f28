package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func lookPath(program string) (string, error) { return exec.LookPath(program) }

func (d *doctor) has(name string) bool {
	_, err := os.Stat(filepath.Join(d.root, name))
	return err == nil
}

// needed are the capabilities of swtpm's without which nothing goes.
var needed = []string{"tpm-2.0", "tpm-1.2", "cmdarg-key-fd"}

func (d *doctor) swtpm() {
	path, err := d.path("swtpm")
	if err != nil {
		d.add("swtpm", bad, "install the package swtpm", "%v", err)
		return
	}
	can, err := capabilities(path)
	if err != nil {
		d.add("swtpm", bad, "install swtpm 0.7.1 or later", "%v", err)
		return
	}
	var missing []string
	for _, c := range needed {
		if !slices.Contains(can.Features, c) {
			missing = append(missing, c)
		}
	}
	if len(missing) > 0 {
		d.add("swtpm", bad, "install swtpm 0.7.1 or later", "%s %s lacks: %s", path, can.Version, strings.Join(missing, ", "))
		return
	}
	d.add("swtpm", good, "", "%s %s", path, can.Version)
}

type swtpmCan struct {
	Features []string `json:"features"`
	Version  string   `json:"version"`
}

// capabilities asks swtpm what it can.
func capabilities(path string) (can swtpmCan, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	b, err := exec.CommandContext(ctx, path, "socket", "--print-capabilities").Output()
	if err == nil {
		err = json.Unmarshal(b, &can)
	}
	if err != nil {
		return can, fmt.Errorf("%s does not say what it can: %w", path, err)
	}
	return can, nil
}

// xen looks at what Xen's guests need, where this is Xen.
func (d *doctor) xen() {
	kind, _ := os.ReadFile(filepath.Join(d.root, "sys/hypervisor/type"))
	if strings.TrimSpace(string(kind)) != "xen" {
		d.add("Xen", absent, "", "this system does not run on Xen; QEMU's guests can be served")
		return
	}
	var missing []string
	for _, node := range []string{"dev/xen/xenbus", "dev/xen/gntdev", "dev/xen/evtchn", "dev/xen/privcmd"} {
		if !d.has(node) {
			missing = append(missing, "/"+node)
		}
	}
	if len(missing) > 0 {
		d.add("Xen", bad, "load the kernel's modules xen-gntdev, xen-evtchn and xen-privcmd", "missing: %s", strings.Join(missing, ", "))
	} else {
		d.add("Xen", good, "", "all devices are there")
	}
	if path, err := d.path("xl"); err != nil {
		d.add("xl", bad, "install the package xen-utils", "%v", err)
	} else {
		d.add("xl", good, "", "%s", path)
	}
}

// proxy looks at what the host's own vTPM needs.
func (d *doctor) proxy() {
	if d.has("dev/vtpmx") {
		d.add("/dev/vtpmx", good, "", "this system can use a vTPM itself: vtpmd --host-vtpm")
		return
	}
	d.add("/dev/vtpmx", absent, "modprobe tpm_vtpm_proxy, if this system itself is to use a vTPM", "it is not there")
}
