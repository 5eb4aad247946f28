package vtpmproof

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/guestinit/script"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/vtpm"
)

// needed are the programs that the proof runs on this side, and programs those of Debian's that a
// guest has beside its first process. The last two are loaded by name: the way to the TPM, and
// cryptsetup's reader of systemd's tokens.
var (
	needed   = []string{"qemu-system-x86_64", "swtpm", "ldd", ovmfCode, ovmfVars}
	programs = []string{
		"tpm2", "tpm2_eventlog", "base64", "dd", "cryptsetup", "systemd-cryptenroll", cryptsetup,
		"/lib/x86_64-linux-gnu/libtss2-tcti-device.so.0",
		"/lib/x86_64-linux-gnu/cryptsetup/libcryptsetup-token-systemd-tpm2.so",
	}
)

const (
	cryptsetup         = "/lib/systemd/systemd-cryptsetup"
	ovmfCode, ovmfVars = "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// run is a step with one of programs.
func run(t *testing.T, args ...string) testbed.Step {
	t.Helper()
	path, err := exec.LookPath(args[0])
	must(t, err)
	return testbed.Run(append([]string{path}, args[1:]...)...)
}

// tool is a step with one of the tpm2-tools. They use the kernel's resource manager, which
// there is for a TPM 2.0 alone.
func tool(t *testing.T, args ...string) testbed.Step {
	t.Helper()
	s := run(t, append([]string{"tpm2"}, args...)...)
	s.Env = []string{"TPM2TOOLS_TCTI=device:/dev/tpmrm0"}
	return s
}

// computer is a guest as its owner describes it.
type computer struct {
	uefi   bool              // OVMF in place of SeaBIOS
	device string            // tpm-tis or tpm-crb
	disk   string            // /dev/vda
	files  map[string]string // in its initramfs
	log    string            // a file that it finds at handedLog
}

// config is a computer at a socket, that does steps and ends.
func (c computer) config(t *testing.T, socket string, steps []testbed.Step) testbed.Config {
	t.Helper()
	im := &testbed.Image{Steps: steps, Load: []string{"virtio_pci", "virtio_blk", "dm-crypt", "xts", "aesni-intel", "algif_skcipher"}}
	must(t, im.Installed(programs...))
	for name, content := range c.files {
		im.File(name, 0o600, []byte(content))
	}
	im.Dir("tmp", 0o700)
	config := testbed.Config{
		Image: im, Memory: 768, TPM: socket, TPMDevice: c.device, Drives: []testbed.Drive{{Path: c.disk}},
		// Without it a guest that wakes from suspend to RAM has fresh PCRs (package vtpm/qemu).
		Extra: []string{"-global", "ICH9-LPC.disable_s3=1"},
	}
	if c.log != "" {
		im.Load = append(im.Load, "qemu_fw_cfg")
		config.Extra = append(config.Extra, "-fw_cfg", "name="+logName+",file="+c.log)
	}
	if c.uefi {
		vars := filepath.Join(t.TempDir(), "vars")
		b, err := os.ReadFile(ovmfVars)
		must(t, err)
		must(t, os.WriteFile(vars, b, 0o600))
		config.Extra = append(config.Extra, "-drive", "if=pflash,format=raw,readonly=on,file="+ovmfCode, "-drive", "if=pflash,format=raw,file="+vars)
	}
	return config
}

// answer is how a step ended, and what it printed.
type answer struct {
	code int
	text string
}

// answers are those of one guest's life, by its commands.
type answers map[string]answer

func command(s testbed.Step) string { return strings.Join(s.Run, " ") }

// of is a step's answer.
func (a answers) of(s testbed.Step) answer { return a[command(s)] }

// succeeded returns what a step printed that must have succeeded.
func (a answers) succeeded(t *testing.T, s testbed.Step) string {
	t.Helper()
	if got := a.of(s); got.code != 0 {
		t.Errorf("%s ended with %d: %s", command(s), got.code, got.text)
	}
	return a.of(s).text
}

// boot starts a guest in a fresh QEMU, lets it do its steps and end, and returns their answers.
func (h *host) boot(u vtpm.UUID, c computer, steps ...testbed.Step) answers {
	h.t.Helper()
	g := testbed.NewGuest(h.t, c.config(h.t, h.socket(u), steps))
	must(h.t, g.Wait(h.t.Context()))
	return parse(h.t, string(g.Transcript()), steps)
}

// parse reads what a guest has said of its steps.
func parse(t *testing.T, transcript string, steps []testbed.Step) answers {
	t.Helper()
	rest, list := strings.ReplaceAll(transcript, "\r", ""), answers{}
	for _, s := range steps {
		q := regexp.QuoteMeta(command(s))
		m := regexp.MustCompile(`(?m)^` + script.Started + ` ` + q + `\n((?s:.*?))^` + script.Exited + ` (\d+) ` + q + `$`).FindStringSubmatchIndex(rest)
		if m == nil {
			t.Fatalf("the guest did not run %s:\n%s", command(s), rest)
		}
		code, err := strconv.Atoi(rest[m[4]:m[5]])
		must(t, err)
		if _, twice := list[command(s)]; twice {
			t.Fatalf("two steps are %s", command(s))
		}
		list[command(s)] = answer{code, strings.TrimSpace(rest[m[2]:m[3]])}
		rest = rest[m[1]:]
	}
	return list
}

// refused starts a QEMU that must end at once, and returns what it said.
func (m *machine) refused(u vtpm.UUID, c computer) string {
	m.t.Helper()
	g, err := testbed.StartGuest(c.config(m.t, m.socket(u), nil))
	if err == nil {
		g.Kill()
		m.t.Fatal("QEMU started a guest")
	}
	return err.Error()
}
