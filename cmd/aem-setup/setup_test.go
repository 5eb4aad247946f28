package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

const sentence = "the lighthouse keeper sleeps on Tuesdays"

// laptop is an emulated machine, launched, with nothing set up.
type laptop struct {
	t      *testing.T
	socket string
	dir    string
	launch drtm.LinuxLaunch
}

func newLaptop(t *testing.T, v tpm.Version) *laptop {
	t.Helper()
	conn, emulator := testbed.NewTPM(t, v)
	conn.Close() // each command line opens the TPM for itself
	l := &laptop{t: t, socket: emulator.Socket(), dir: t.TempDir(), launch: testbed.SampleLaunch(drtm.TXT, v)}
	l.boot()
	return l
}

func (l *laptop) boot() {
	l.t.Helper()
	conn, err := swtpm.Dial(l.socket)
	if err != nil {
		l.t.Fatal(err)
	}
	defer conn.Close()
	if err := testbed.PowerOn(conn, l.launch.Version); err != nil {
		l.t.Fatal(err)
	}
	log, err := testbed.LaunchLinux(conn, l.launch)
	if err == nil {
		err = os.WriteFile(filepath.Join(l.dir, "log"), log, 0o600)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// setup runs aem-setup with something on its standard input.
func (l *laptop) setup(input string, args ...string) (exit aem.Exit, out string) {
	l.t.Helper()
	return capture(l.t, input, append(args, l.where()...))
}

// where are the arguments that name the laptop.
func (l *laptop) where() []string {
	return []string{"--tpm", "swtpm:" + l.socket, "--log", filepath.Join(l.dir, "log"), "--home", filepath.Join(l.dir, "home")}
}

// grub writes a folder that GRUB reads, and has the laptop boot by it.
func (l *laptop) grub(dir string, kernel, initrd []byte) {
	l.t.Helper()
	for name, b := range map[string][]byte{
		"vmlinuz": kernel, "initrd.img": initrd, "loader.bin": l.launch.Loader,
		"grub/grub.cfg": []byte("menuentry 'Debian' {\n slaunch skinit\n slaunch_module /loader.bin\n linux /vmlinuz quiet\n initrd /initrd.img\n}\n"),
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600)); err != nil {
			l.t.Fatal(err)
		}
	}
	l.launch.Kernel, l.launch.Initrd, l.launch.CommandLine = kernel, initrd, "BOOT_IMAGE=/vmlinuz quiet"
}

// capture runs a command line and returns what it printed, on both outputs.
func capture(t *testing.T, input string, args []string) (aem.Exit, string) {
	t.Helper()
	in, typed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := typed.WriteString(input); err != nil {
		t.Fatal(err)
	}
	typed.Close()
	temp, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer func(i, o, e *os.File) {
		os.Stdin, os.Stdout, os.Stderr = i, o, e
		in.Close()
		temp.Close()
	}(os.Stdin, os.Stdout, os.Stderr)
	os.Stdin, os.Stdout, os.Stderr = in, temp, temp
	exit := cli.Run(t.Context(), newCommand(), args)
	b, err := os.ReadFile(temp.Name())
	if err != nil {
		t.Fatal(err)
	}
	return exit, string(b)
}

func (l *laptop) want(exit aem.Exit, text, input string, args ...string) string {
	l.t.Helper()
	got, out := l.setup(input, args...)
	if got != exit || !strings.Contains(out, text) {
		l.t.Errorf("aem-setup %q: exit %d, %q; want %d and %q", args, got, out, exit, text)
	}
	if strings.Contains(out, sentence) || strings.Contains(out, "271828") {
		l.t.Errorf("aem-setup %q printed the secret or the PIN: %q", args, out)
	}
	return out
}

func TestSetUp(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			l := newLaptop(t, v)
			l.want(aem.ExitOK, "run aem-setup init", "", "status")
			l.want(aem.ExitError, "not set up yet", sentence+"\n", "secret", "set", "text")
			l.want(aem.ExitUsage, "--medium is needed", "", "init")
			l.want(aem.ExitOK, "Ready.", "", "init", "--no-disks", "--medium", l.dir)
			l.want(aem.ExitError, "set up already", "", "init", "--no-disks", "--medium", l.dir)
			l.want(aem.ExitError, "no secret to seal yet", "", "seal")
			l.want(aem.ExitError, "empty sentence", "\n", "secret", "set", "text")
			l.want(aem.ExitOK, "Kept.", sentence+"\n", "secret", "set", "text")
			l.want(aem.ExitOK, "holds no record", "", "status")
			l.want(aem.ExitOK, "Sealed as generation 2", "", "seal", "--label", "Monday")
			l.want(aem.ExitOK, "yes", "", "status")
			l.want(aem.ExitError, "the two PINs differ", "271828\n314159\n", "seal", "--pin")
			l.want(aem.ExitOK, "Sealed as generation 3", "271828\n271828\n", "seal", "--pin")

			var st aem.Status
			out := l.want(aem.ExitOK, "", "", "status", "--json")
			if err := json.Unmarshal([]byte(out), &st); err != nil || !st.Opens || !st.PIN || st.Generation != 3 {
				t.Errorf("status says %+v, %v", st, err)
			}
			// The next boot, computed from its files.
			kernel, initrd := filepath.Join(l.dir, "kernel"), filepath.Join(l.dir, "initrd")
			for path, b := range map[string][]byte{kernel: testbed.BzImage("new"), initrd: []byte("new")} {
				if err := os.WriteFile(path, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			l.want(aem.ExitUsage, "belong together", "", "seal", "--kernel", kernel)
			l.want(aem.ExitOK, "Sealed as generation 4", "", "seal", "--kernel", kernel, "--initrd", initrd, "--cmdline", "new")
			l.want(aem.ExitOK, "is not what you approved", "", "status")
			l.launch.Kernel, l.launch.Initrd, l.launch.CommandLine = testbed.BzImage("new"), []byte("new"), "new"
			l.boot()
			l.want(aem.ExitOK, "(this boot)", "", "status")
			wantNoSecret(t, l.dir)
		})
	}
}

// wantNoSecret looks through all files for the secret and the PIN.
func wantNoSecret(t *testing.T, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(sentence)) || bytes.Contains(b, []byte("271828")) {
			t.Errorf("%s holds the secret or the PIN", filepath.Base(path))
		}
		return err
	})
	if err != nil || files < 4 {
		t.Errorf("%d files were looked through, %v", files, err)
	}
}

func TestABootThatWasNotLaunchedIsNotSealedTo(t *testing.T) {
	l := newLaptop(t, tpm.V20)
	l.want(aem.ExitOK, "Ready.", "", "init", "--no-disks", "--medium", l.dir)
	l.want(aem.ExitOK, "Kept.", sentence+"\n", "secret", "set", "text")
	conn, err := swtpm.Dial(l.socket)
	if err != nil {
		t.Fatal(err)
	}
	if err := testbed.PowerOn(conn, tpm.V20); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	l.want(aem.ExitNotPossible, "not possible on this machine", "", "seal")
}

func TestWithoutATPM(t *testing.T) {
	dir := t.TempDir()
	exit, out := capture(t, "", []string{"status", "--home", dir, "--tpm", filepath.Join(dir, "tpm0")})
	if exit != aem.ExitNotPossible || !strings.Contains(out, "shows no TPM") {
		t.Errorf("exit %d, %q", exit, out)
	}
}

// A stick's life, an update's approval and the end, by the command line alone.
func TestDailyLife(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			l := newLaptop(t, v)
			boot := filepath.Join(l.dir, "boot")
			grub := func(kernel, initrd []byte) { l.grub(boot, kernel, initrd) }
			grub(testbed.BzImage("one"), []byte("one"))
			l.boot()
			l.want(aem.ExitOK, "Ready.", "", "init", "--no-disks", "--medium", l.dir)
			l.want(aem.ExitOK, "Kept.", sentence+"\n", "secret", "set", "text")
			l.want(aem.ExitError, "no boot was approved yet", "", "approve", "--boot", boot)
			l.want(aem.ExitOK, "Sealed as generation 2", "", "seal", "--label", "Monday", "--boot", boot)

			stick := filepath.Join(l.dir, "stick")
			l.want(aem.ExitUsage, "needed", "", "media", "add", "blue")
			l.want(aem.ExitOK, "blue is a medium now", "", "media", "add", "blue", stick)
			l.want(aem.ExitOK, "opens what is approved", "", "media", "list")
			l.want(aem.ExitOK, "is called red now", "", "media", "rename", "blue", "red")

			l.want(aem.ExitOK, "is approved already", "", "approve", "--boot", boot)
			grub(testbed.BzImage("two"), []byte("two"))
			out := l.want(aem.ExitOK, "Nothing was sealed", "", "approve", "--boot", boot, "--dry-run")
			if strings.Contains(out, "Assumed") || !strings.Contains(out, "initramfs") || !strings.Contains(out, "kernel") {
				t.Errorf("the dry run says %q", out)
			}
			l.want(aem.ExitError, "nobody to ask", "", "approve", "--boot", boot)
			l.want(aem.ExitOK, "red: sealed as generation", "", "approve", "--boot", boot, "--yes")
			l.want(aem.ExitOK, "Debian\nMonday", "", "approve", "--list")
			l.boot()
			l.want(aem.ExitOK, "(this boot)", "", "status")
			l.want(aem.ExitOK, "sealed as generation", "", "approve", "--drop", "Monday")

			l.want(aem.ExitOK, "Nothing was changed", "", "media", "revoke", "red", "--dry-run")
			l.want(aem.ExitOK, "opens nothing any more", "", "media", "revoke", "red")
			l.want(aem.ExitOK, "revoked", "", "media", "list")
			l.want(aem.ExitOK, "Every medium is up to date", "", "media", "sync")
			out = l.want(aem.ExitOK, "the medium red was revoked", "", "journal")
			if !strings.Contains(out, "Debian was approved") || !strings.Contains(out, "set up with") {
				t.Errorf("the journal is %q", out)
			}
			wantNoSecret(t, l.dir)
			l.want(aem.ExitOK, "Nothing was changed", "", "uninstall", "--dry-run")
			l.want(aem.ExitOK, "Removed.", "", "uninstall", "--yes")
			l.want(aem.ExitOK, "run aem-setup init", "", "status")
		})
	}
}
