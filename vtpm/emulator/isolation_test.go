package emulator_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm/emulator"
)

func proc(t *testing.T, e *emulator.Emulator, name string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", e.PID(), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// field is a line of /proc/PID/status or limits, its words joined by single spaces.
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.Join(strings.Fields(rest), " ")
		}
	}
	return "none"
}

// isolated is newHost for tests of what only root, and a machine that lets it make namespaces, can have.
func isolated(t *testing.T) *emulator.Host {
	t.Helper()
	h := newHost(t)
	if list := h.Missing(); len(list) > 0 {
		if os.Getenv("CI") != "" && os.Geteuid() == 0 {
			t.Fatalf("protections are missing: %q", list)
		}
		t.Skipf("protections are missing: %q", list)
	}
	return h
}

// systemd starts the manager with UMask=0077; an emulator's user must find its program all the same.
func TestTheManagersUmaskIsNotTheViews(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	h := isolated(t)
	stop(t, run(t, h, create(t, h, tpm.V20), emulator.Inheritance{}))
}

func TestEmulatorIsConfined(t *testing.T) {
	h := isolated(t)
	for _, v := range both {
		e := run(t, h, create(t, h, v), emulator.Inheritance{})
		status := proc(t, e, "status")
		limits := proc(t, e, "limits")
		want := map[string]string{
			"user": "20001 20001 20001 20001", "group": "20001 20001 20001 20001", "groups": "",
			"capabilities": "0000000000000000", "new privileges": "1", "filter": "2", "environment": "",
			"core": "0 0 bytes", "processes": "0 0 processes", "files": "16 16 files", "file size": "1048576 1048576 bytes",
			"shared namespaces": "",
		}
		have := map[string]string{
			"user": field(status, "Uid:"), "group": field(status, "Gid:"), "groups": field(status, "Groups:"),
			"capabilities": field(status, "CapEff:"), "new privileges": field(status, "NoNewPrivs:"), "filter": field(status, "Seccomp:"),
			"environment": proc(t, e, "environ"),
			"core":        field(limits, "Max core file size"), "processes": field(limits, "Max processes"),
			"files": field(limits, "Max open files"), "file size": field(limits, "Max file size"),
		}
		var shared []string
		for _, ns := range []string{"mnt", "pid", "net", "ipc", "uts"} {
			ours, err := os.Readlink("/proc/self/ns/" + ns)
			if err != nil {
				t.Fatal(err)
			}
			if theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", e.PID(), ns)); err != nil || theirs == ours {
				shared = append(shared, ns)
			}
		}
		have["shared namespaces"] = strings.Join(shared, " ")
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%v: %s", v, diff)
		}
	}
}

// What an emulator sees: libraries, itself and its own state.
func TestEmulatorSeesNothingElse(t *testing.T) {
	h := isolated(t)
	cfg := create(t, h, tpm.V20)
	a := run(t, h, cfg, emulator.Inheritance{})
	cfg.UID, cfg.GID = 20002, 20002
	b := run(t, h, cfg, emulator.Inheritance{})
	root := fmt.Sprintf("/proc/%d/root", b.PID())
	for _, name := range entries(t, root) {
		if !slices.Contains([]string{"lib", "lib64", "usr", "etc", "state"}, name) {
			t.Errorf("it sees /%s", name)
		}
	}
	if diff := cmp.Diff([]string{"swtpm"}, entries(t, root+"/usr/bin")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"ld.so.cache"}, entries(t, root+"/etc")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{".lock", "tpm2-00.permall"}, entries(t, root+"/state")); diff != "" {
		t.Error(diff)
	}
	states := 0
	for line := range strings.Lines(proc(t, b, "mounts")) {
		f := strings.Fields(line)
		if f[1] == "/state" {
			states++
		}
		if options := strings.Split(f[3], ","); f[1] != "/state" && !slices.Contains(options, "ro") || !slices.Contains(options, "nodev") || !slices.Contains(options, "nosuid") {
			t.Errorf("%s is mounted %s", f[1], f[3])
		}
	}
	if states != 1 {
		t.Errorf("%d states are mounted", states)
	}
	// Nobody else, the other emulator included, is shown its state.
	if slices.Contains(entries(t, "/"), "state") {
		t.Error("the state shows in our own view")
	}
	var sa, sb syscall.Stat_t
	if err := syscall.Stat(fmt.Sprintf("/proc/%d/root/state", a.PID()), &sa); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Stat(root+"/state", &sb); err != nil {
		t.Fatal(err)
	}
	if sa.Dev == sb.Dev {
		t.Error("two emulators share a file system for their states")
	}
}

// The key stands where only the two processes can read it, and nowhere in a name or on a disk.
func TestKeyShowsNowhere(t *testing.T) {
	h := newHost(t)
	cfg := emulator.Config{Version: tpm.V20, Key: []byte("an unmistakable key of 32 bytes!"), UID: 20001, GID: 20001}
	var err error
	if cfg.State, err = h.Create(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	e := run(t, h, cfg, emulator.Inheritance{})
	for _, name := range []string{"cmdline", "environ"} {
		if text := proc(t, e, name); strings.Contains(text, "unmistakable") || strings.Contains(text, fmt.Sprintf("%x", cfg.Key)) {
			t.Errorf("the key is in %s", name)
		}
	}
	if bytes.Contains(cfg.State, cfg.Key) {
		t.Error("the key is in the state")
	}
	// Standard input, output, errors, control, data, and the state's lock; the key's pipe is read and closed.
	links := map[string]bool{}
	dir := fmt.Sprintf("/proc/%d/fd", e.PID())
	for _, fd := range entries(t, dir) {
		link, err := os.Readlink(filepath.Join(dir, fd))
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := strings.Cut(link, ":")
		links[kind] = true
		if kind != "socket" && kind != "pipe" && link != "/dev/null" && !strings.HasSuffix(link, "/.lock") {
			t.Errorf("descriptor %s is %s", fd, link)
		}
	}
	if !links["socket"] {
		t.Errorf("descriptors: %v", links)
	}
}

func TestEmulatorDiesWithItsHost(t *testing.T) {
	h, err := emulator.NewHost(t.TempDir())
	testbed.Need(t, "swtpm")
	if err != nil {
		t.Fatal(err)
	}
	e := run(t, h, create(t, h, tpm.V20), emulator.Inheritance{})
	h.Close()
	<-e.Done()
	if _, err := h.Create(context.Background(), emulator.Config{Version: tpm.V20, Key: make([]byte, emulator.KeySize), UID: 20001, GID: 20001}); err == nil {
		t.Error("a closed host created a vTPM")
	}
}

// As somebody else than root it works, and says what is missing.
func TestWithoutRoot(t *testing.T) {
	testbed.Need(t, "swtpm")
	if os.Geteuid() == 0 {
		dir := t.TempDir()
		if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
		again := exec.Command("/proc/self/exe", "-test.run=^TestWithoutRoot$", "-test.v")
		again.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		again.Dir = dir
		again.Env = []string{"TMPDIR=" + dir, "PATH=" + os.Getenv("PATH"), "CI=" + os.Getenv("CI")}
		out, err := again.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS: TestWithoutRoot")) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	dir := t.TempDir()
	h, err := emulator.NewHost(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	missing := strings.Join(h.Missing(), "; ")
	for _, what := range []string{"own user", "namespaces"} {
		if !strings.Contains(missing, what) {
			t.Errorf("%q does not say that the %s is missing", missing, what)
		}
	}
	for _, v := range both {
		cfg := create(t, h, v)
		e := run(t, h, cfg, emulator.Inheritance{})
		if got := len(entries(t, dir)); got != 1 {
			t.Errorf("%d folders for one vTPM", got)
		}
		who := identity(t, e, v)
		cfg.State = stop(t, e)
		if e = run(t, h, cfg, emulator.Inheritance{}); identity(t, e, v) != who {
			t.Errorf("%v: another TPM", v)
		}
		stop(t, e)
		if left := entries(t, dir); len(left) != 0 {
			t.Errorf("%v is left behind", left)
		}
	}
}

func TestRootIsNoUserForAnEmulator(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give an emulator another user")
	}
	h := newHost(t)
	cfg := create(t, h, tpm.V20)
	cfg.UID = 0
	if _, err := h.Start(context.Background(), cfg); err == nil {
		t.Error("an emulator runs as root")
	}
}

// The view is one thread's. /proc/self is the main thread's, which must not be that one.
func TestOurOwnViewStays(t *testing.T) {
	testbed.Need(t, "swtpm")
	before, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	for range 30 {
		h, err := emulator.NewHost(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		if after, err := os.Readlink("/proc/self/ns/mnt"); err != nil || after != before {
			t.Fatalf("%s became %s: %v", before, after, err)
		}
		h.Close()
	}
}

// A swtpm that lacks something is asked for nothing that it lacks.
func TestOtherBuildsOfSwtpm(t *testing.T) {
	for _, c := range []struct {
		name, features string
		works          bool
		says           string
	}{
		{"no key by descriptor", `"tpm-2.0"`, false, ""},
		{"no seccomp", `"tpm-2.0", "cmdarg-key-fd"`, true, "without seccomp"},
	} {
		dir := t.TempDir()
		script := "#!/bin/sh\necho '{ \"type\": \"swtpm\", \"features\": [ " + c.features + " ] }'\n"
		if err := os.WriteFile(filepath.Join(dir, "swtpm"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
		h, err := emulator.NewHost(dir)
		if (err == nil) != c.works {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil {
			continue
		}
		if list := strings.Join(h.Missing(), "; "); !strings.Contains(list, c.says) {
			t.Errorf("%s: %q does not say so", c.name, list)
		}
		key := make([]byte, emulator.KeySize)
		if _, err := h.Create(context.Background(), emulator.Config{Version: tpm.V12, Key: key, UID: 20001, GID: 20001}); err == nil || !strings.Contains(err.Error(), "TPM 1.2") {
			t.Errorf("%s: a family that it does not know: %v", c.name, err)
		}
		h.Close()
	}
}
