package vtpmproof

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/guestinit/script"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/internal/vtpmbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/device"
	"github.com/antievilmaid/aem/tpm2"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/measure"
)

// A guest of libvirt's, with the sample that its owner is given, has the TPM that vtpmctl made for it. Each
// start and each reset gives it fresh PCRs and the same TPM; libvirt cuts its power, and its TPM is in order. Nobody
// else is given that TPM, and libvirt does not save it, with the reason in words.
func TestLibvirt(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("libvirt gives QEMU a user of its own as root alone")
	}
	testbed.Need(t, "libvirtd", "virsh", libvirtDriver, "qemu-system-x86_64", "swtpm", "ldd", "tpm2")
	s := vtpmbed.New(t, tpm.V20, program(t, "vtpmd"))
	want := measure.Launch{Guest: vtpm.Guest{UUID: sampled}, Start: measure.Firmware, Host: launched(t, s)}
	s.Do(aem.ExitOK, "The store", "init")
	d := s.Start()
	sockets := filepath.Join(s.Dir, "run")
	create := program(t, "vtpmctl")("create", "--socket", filepath.Join(sockets, "admin.sock"), "--uuid", sampled.String(), "--qemu-user", libvirtUser)
	if said, err := create.CombinedOutput(); err != nil {
		t.Fatalf("vtpmctl: %v: %s", err, said)
	}
	l := newLibvirt(t, sockets)
	b := bed{tool(t, "unseal", "-c", "0x81000001", "-p", "pcr:sha256:17,18"), tool(t, "getcap", "properties-variable"), tool(t, "pcrread"), run(t, "cat", "/sys/power/mem_sleep")}

	g := l.define("desktop", b.image(t))
	said := b.life(g, g.start)
	begin := parsePCRs(t, said.succeeded(t, b.pcrs))
	predicted, err := want.Predict(begin.Algs())
	must(t, err)
	for _, bank := range begin {
		for p := tpm.PCR(17); p <= 22; p++ {
			if diff := cmp.Diff(predicted.Value(bank.Alg, p), bank.Values[p]); diff != "" {
				t.Errorf("PCR %d of %s: %s", p, bank.Alg, diff)
			}
		}
	}
	if got := said.succeeded(t, b.sleep); got != "[s2idle]" {
		t.Errorf("with the sample's <pm> the guest can suspend by %s", got)
	}
	if got := said.of(b.unseal); got.code == 0 {
		t.Errorf("a fresh vTPM unsealed %s", got.text)
	}
	for _, s := range b.use(t) {
		said.succeeded(t, s)
	}

	if got := l.define("thief", b.image(t)).refused(); !strings.Contains(got, "Failed to start domain 'thief'") || !strings.Contains(got, "tpm-emulator") {
		t.Errorf("of a second guest libvirt says: %s", got)
	}
	if got := d.Said(); !strings.Contains(got, "stop that QEMU first") {
		t.Errorf("of a second guest vtpmd says: %s", got)
	}
	for _, args := range [][]string{
		{"save", "desktop", g.path("saved")}, {"managedsave", "desktop"}, {"migrate", "--live", "desktop", l.uri()},
		{"snapshot-create-as", "desktop", "--memspec", "file=" + g.path("memory")},
	} {
		if got := l.refuses(args...); !strings.Contains(got, "TPM emulator does not support migration") {
			t.Errorf("virsh %s says: %s", args[0], got)
		}
	}

	for _, again := range []struct {
		how   string
		start func()
	}{
		{"a reset", func() { l.do("reset", "desktop") }},
		{"a power cut", func() { l.do("destroy", "desktop"); g.start() }},
	} {
		said = b.life(g, again.start)
		if diff := cmp.Diff(begin, parsePCRs(t, said.succeeded(t, b.pcrs))); diff != "" {
			t.Errorf("after %s the PCRs are others: %s", again.how, diff)
		}
		if got := said.succeeded(t, b.unseal); got != secret {
			t.Errorf("after %s unsealed was %q", again.how, got)
		}
		if got := said.succeeded(t, b.counter); !strings.Contains(got, "TPM2_PT_LOCKOUT_COUNTER: 0x0\n") {
			t.Errorf("after %s the TPM counts a wrong password: %s", again.how, got)
		}
	}
	l.do("destroy", "desktop")
	d.Stop()
	if got := g.refused(); !strings.Contains(got, "Failed to connect to '/run/vtpmd/qemu/"+sampled.String()) {
		t.Errorf("without vtpmd libvirt says: %s", got)
	}
}

// sampled is the vTPM in the sample, and libvirtUser who runs QEMU for Debian's libvirt.
var sampled = vtpm.UUID{0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x33, 0x33, 0x44, 0x44, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88}

const libvirtUser = "64055"

// program is one of this module's, as it is shipped.
func program(t *testing.T, name string) func(args ...string) *exec.Cmd {
	t.Helper()
	b, err := testbed.Program("./cmd/" + name)
	must(t, err)
	path := filepath.Join(t.TempDir(), name)
	must(t, os.WriteFile(path, b, 0o755))
	return func(args ...string) *exec.Cmd { return exec.Command(path, args...) }
}

// launched is what a machine's guests inherit.
func launched(t *testing.T, s *vtpmbed.Server) measure.Host {
	t.Helper()
	d, err := device.Open(device.Options{Spec: s.TPM()})
	must(t, err)
	defer d.Close()
	banks, err := tpm2.New(d).ReadPCRs(launchPCRs)
	must(t, err)
	return measure.Host{Grade: measure.Launched, PCRs: banks}
}

// bed is what a guest does at each of its starts: it looks first, and changes then what it can.
type bed struct{ unseal, counter, pcrs, sleep testbed.Step }

// use makes the guest use its TPM. That takes a password, so that a TPM that is not shut down in order counts it as
// a wrong one. The last step's object is there already at the second start.
func (b bed) use(t *testing.T) []testbed.Step {
	t.Helper()
	ones := strings.Repeat("5a", 32)
	return []testbed.Step{
		tool(t, "createprimary", "-Q", "-C", "o", "-G", "ecc", "-p", "password", "-c", "/tmp/primary"),
		tool(t, "createpolicy", "-Q", "--policy-pcr", "-l", "sha256:17,18", "-L", "/tmp/policy"),
		tool(t, "create", "-Q", "-C", "/tmp/primary", "-P", "password", "-L", "/tmp/policy", "-i", "/secret", "-u", "/tmp/public", "-r", "/tmp/private"),
		tool(t, "load", "-Q", "-C", "/tmp/primary", "-P", "password", "-u", "/tmp/public", "-r", "/tmp/private", "-c", "/tmp/sealed"),
		tool(t, "pcrextend", "4:sha256="+ones, "16:sha256="+ones),
		tool(t, "evictcontrol", "-Q", "-C", "o", "-c", "/tmp/sealed", "0x81000001"),
	}
}

func (b bed) steps(t *testing.T) []testbed.Step {
	t.Helper()
	return append([]testbed.Step{b.unseal, b.counter, b.pcrs, b.sleep}, b.use(t)...)
}

// image does the steps, and waits.
func (b bed) image(t *testing.T) *testbed.Image {
	t.Helper()
	im := &testbed.Image{Steps: append(b.steps(t), run(t, "sleep", "infinity"))}
	must(t, im.Installed("tpm2", "cat", "sleep", "/lib/x86_64-linux-gnu/libtss2-tcti-device.so.0"))
	im.File("secret", 0o600, []byte(secret))
	im.Dir("tmp", 0o700)
	return im
}

// life is what the guest says from a start to when it waits.
func (b bed) life(g *domain, start func()) answers {
	g.t.Helper()
	start()
	return parse(g.t, g.until(script.Started+` \S+ infinity$`), b.steps(g.t))
}
