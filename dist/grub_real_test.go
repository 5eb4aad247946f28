package dist_test

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/internal/testbed"
)

// The commands that load something, and those of TrenchBoot's GRUB, as functions that
// say what they were given, a word a line. GRUB calls a function where it has no command
// of the name.
const (
	say      = "for word in \"$@\"; do echo \"SAID $word\"; done; "
	standIns = "function load_video { true; }\nfunction search { true; }\n" +
		"function linux { echo SAID linux; " + say + "}\nfunction initrd { echo SAID initrd; " + say + "}\n" +
		"function multiboot2 { echo SAID multiboot2; " + say + "}\nfunction module2 { echo SAID module2; " + say + "}\n"
	refuses = "function slaunch { false; }\n"
)

// fits takes one loader module, and no other.
func fits(name string) string {
	return "function slaunch { echo SAID slaunch; }\nfunction slaunch_module { if [ \"$1\" = '" + name + "' ]; then echo SAID slaunch_module; " + say + "true; else false; fi; }\n"
}

// modules is where Debian keeps GRUB for a BIOS.
const modules = "/usr/lib/grub/i386-pc"

// grub has a real GRUB, started by a BIOS, execute an entry, and returns what it did
// until it gave up: nothing was loaded. GRUB has no other commands than those of the
// modules named here.
func grub(t *testing.T, m *machine, config, id string) (said []string, transcript string) {
	t.Helper()
	testbed.Need(t, "grub-mkimage")
	boot, err := os.ReadFile(filepath.Join(modules, "boot.img"))
	if err != nil {
		if os.Getenv("CI") == "" {
			t.Skipf("GRUB for a BIOS is not installed: %v", err)
		}
		t.Fatal(err)
	}
	config = "serial --unit=0 --speed=115200\nterminal_output serial\nset timeout=0\nset default=" + id + "\nset menuentry_id_option=--id\n" + standIns + config
	var memdisk bytes.Buffer
	w := tar.NewWriter(&memdisk)
	m.must(w.WriteHeader(&tar.Header{Name: "grub.cfg", Mode: 0o644, Size: int64(len(config)), Format: tar.FormatUSTAR}))
	_, err = w.Write([]byte(config))
	m.must(err)
	m.must(w.Close())
	m.file("memdisk.tar", memdisk.String())
	m.file("early.cfg", "set prefix=(memdisk)/\nnormal (memdisk)/grub.cfg\n")
	cmd := exec.Command("grub-mkimage", "-O", "i386-pc", "-d", modules, "-p", "(memdisk)/", "-o", filepath.Join(m.root, "core.img"), "-m", filepath.Join(m.root, "memdisk.tar"),
		"-c", filepath.Join(m.root, "early.cfg"), "biosdisk", "memdisk", "tar", "normal", "echo", "test", "true", "serial", "terminal", "sleep")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	core, err := os.ReadFile(filepath.Join(m.root, "core.img"))
	m.must(err)
	disk := slices.Concat(boot, core)
	m.file("disk.img", string(append(disk, make([]byte, 2<<20-len(disk))...)))

	guest := testbed.NewGuest(t, testbed.Config{Memory: 64, Drives: []testbed.Drive{{Path: filepath.Join(m.root, "disk.img")}}})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if _, err := guest.Expect(ctx, `Failed to boot both default and fallback|Press any key`); err != nil {
		t.Fatal(err)
	}
	transcript = string(guest.Transcript())
	for _, line := range regexp.MustCompile(`SAID [^\r\n]*`).FindAllString(transcript, -1) {
		said = append(said, strings.TrimPrefix(line, "SAID "))
	}
	return said, transcript
}

// What our evaluator and grub-script-check say of the entries, GRUB itself does.
func TestGRUBItselfExecutesTheEntries(t *testing.T) {
	m := newMachine(t, intel, false).typical()
	m.file("etc/default/grub", "GRUB_DISTRIBUTOR=\"Bob's \\$root {\"\nGRUB_CMDLINE_LINUX_DEFAULT='quiet a=\"b  c\"'\nGRUB_CMDLINE_XEN=dom0_mem=2G\n")
	entries, _ := m.script()
	words := []string{"root=UUID=" + uuid, "ro", "quiet", "a=b  c"}
	for _, test := range []struct {
		name, functions, id string
		said                []string
		why                 string
	}{
		{"the first module fits", fits(sinits[0]), "aem-launch-linux", slices.Concat(
			[]string{"slaunch", "linux", "/vmlinuz-6.1.0-37-amd64"}, words,
			[]string{"initrd", "/intel-ucode.img", "/initrd.img-6.1.0-37-amd64", "slaunch_module", sinits[0]}), ""},
		{"the second module fits", fits(sinits[1]), "aem-launch-xen", slices.Concat(
			[]string{"slaunch", "multiboot2", "/xen-4.17-amd64.gz", "placeholder", "dom0_mem=2G", "module2", "/vmlinuz-6.1.0-37-amd64", "placeholder"}, words,
			[]string{"module2", "--nounzip", "/initrd.img-6.1.0-37-amd64", "slaunch_module", sinits[1]}), ""},
		{"no module fits", fits("none"), "aem-launch-linux", slices.Concat(
			[]string{"slaunch", "linux", "/vmlinuz-6.1.0-37-amd64"}, words, []string{"initrd", "/intel-ucode.img", "/initrd.img-6.1.0-37-amd64"}), "No loader module in /boot fits"},
		// Nothing is loaded then, which GRUB would start without a launch.
		{"a GRUB without slaunch", "", "aem-launch-linux", nil, "This GRUB has no command slaunch."},
		{"slaunch refuses", refuses, "aem-launch-xen", nil, "There is no dynamic launch; nothing was started."},
	} {
		t.Run(test.name, func(t *testing.T) {
			// Our stand-ins take the place of a function that is there for GRUBs without the command.
			config := strings.ReplaceAll(entries, "sleep --interruptible 15", "true")
			if test.functions != "" {
				config = strings.Replace(config, "function slaunch {", "function other {", 1)
			}
			said, transcript := grub(t, m, test.functions+config, test.id)
			same(t, "said", test.said, said)
			if !strings.Contains(transcript, "Booting `AEM: Bob's $root {, with ") {
				t.Errorf("the title is not in\n%s", transcript)
			}
			if !strings.Contains(transcript, test.why) || strings.Contains(transcript, "nothing was started") != (test.said == nil) {
				t.Errorf("%q is not what GRUB says:\n%s", test.why, transcript)
			}
		})
	}
}

// The entries rest on this: of a command and a function of one name GRUB takes the
// command, and to its if a command that is neither has succeeded.
func TestWhatGRUBDoesWithNames(t *testing.T) {
	m := newMachine(t, intel, false)
	said, transcript := grub(t, m, `function true { return 1; }
menuentry x {
	if true; then echo SAID command; else echo SAID function; fi
	if is_not_there; then echo SAID succeeded; else echo SAID failed; fi
	if insmod is_not_there; then echo SAID succeeded; else echo SAID failed; fi
}
`, "x")
	if want := []string{"command", "succeeded", "succeeded"}; !slices.Equal(said, want) {
		t.Errorf("GRUB says %q:\n%s", said, transcript)
	}
}
