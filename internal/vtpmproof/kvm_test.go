package vtpmproof

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/manager"
	"github.com/antievilmaid/aem/vtpm/measure"
)

const (
	secret = "what the guest wrote"
	binary = "/sys/kernel/security/tpm0/binary_bios_measurements"
)

// A guest in QEMU has a TPM that Linux and its tools take for one: it inherits the host's launch,
// its firmware's log replays, and a volume that its owner bound to it opens there by itself.
// That is so with either firmware and with either of QEMU's devices. The volume opens at each start of this guest on a host that was launched as approved, and in no other
// case: without the launch there is no vTPM, and so no guest; another guest's vTPM does not open it.
func TestKVM(t *testing.T) {
	testbed.Need(t, append(needed, programs...)...)
	m := newMachine(t)
	h := m.started()
	u, other := h.create(manager.Policy{}), h.create(manager.Policy{})

	disk := filepath.Join(t.TempDir(), "disk")
	must(t, os.WriteFile(disk, nil, 0o600))
	must(t, os.Truncate(disk, 32<<20))
	// The passphrase and the secret are in the first start's initramfs alone.
	first := computer{uefi: true, device: "tpm-tis", disk: disk, files: map[string]string{"passphrase": "passphrase", "secret": secret}}
	installation(t, h, u, first)

	attach := run(t, cryptsetup, "attach", "vault", "/dev/vda", "-", "tpm2-device=auto,headless")
	read := run(t, "dd", "if=/dev/mapper/vault", fmt.Sprintf("bs=%d", len(secret)), "count=1", "status=none")
	random := tool(t, "getrandom", "--hex", "16")
	later := computer{uefi: true, device: "tpm-crb", disk: disk}
	pcrs, log, yaml := telling(t)

	// A start is told apart from the others by its initramfs, which QEMU's -kernel writes into the kernel's header
	// (its size), and OVMF into PCR 4 with it. So the volume is bound to PCR 7.
	said := h.boot(other, computer{device: "tpm-crb", disk: disk}, random, attach, read, pcrs, log, yaml)
	told(t, "SeaBIOS", said)
	said.succeeded(t, random)
	if got := said.of(attach); got.code == 0 || !strings.Contains(got.text, "integrity check failed") {
		t.Errorf("with another guest's vTPM it ended with %d: %s", got.code, got.text)
	}
	if got := said.of(read); got.code == 0 || strings.Contains(got.text, secret) {
		t.Errorf("with another guest's vTPM the volume is there: %s", got.text)
	}

	h.shutDown()
	m.launch("evil")
	if _, err := m.start(); !errors.Is(err, seal.ErrMeasurements) {
		t.Errorf("on a host that was launched otherwise the vTPM manager started: %v", err)
	}
	if got := m.refused(u, later); !strings.Contains(got, "Failed to connect to '"+m.socket(u)) {
		t.Errorf("without a vTPM manager QEMU says: %s", got)
	}

	m.launch("approved")
	h = m.started()
	h.serve(u)
	later.log = h.nextLog(u)
	inherited, inheritedYAML := readingLog(t)
	said = h.boot(u, later, attach, read, pcrs, log, yaml, inherited, inheritedYAML)
	told(t, "OVMF, tpm-crb", said)
	handed(t, said)
	said.succeeded(t, attach)
	if got := said.succeeded(t, read); got != secret {
		t.Errorf("after a restart of host and guest the volume holds %q", got)
	}

	strict := h.create(manager.Policy{OnlyMeasured: true})
	if got := m.refused(strict, later); !strings.Contains(got, "tpm-emulator") {
		t.Errorf("of a guest that may not have its vTPM QEMU says: %s", got)
	}
	if log := h.log.String(); !strings.Contains(log, manager.ErrUnmeasured.Error()) {
		t.Errorf("of a guest that may not have its vTPM the log says: %s", log)
	}
}

// installation is the first start of a guest: it encrypts its disk, binds it to the vTPM, and tries the
// vTPM in other ways.
func installation(t *testing.T, h *host, u vtpm.UUID, c computer) {
	enroll := run(t, "systemd-cryptenroll", "--tpm2-device=auto", "--tpm2-pcrs=7+17+18", "/dev/vda")
	enroll.Env = []string{"PASSWORD=passphrase"}
	volume := []testbed.Step{
		run(t, "cryptsetup", "luksFormat", "--batch-mode", "--type=luks2", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", "/dev/vda", "/passphrase"),
		enroll,
		run(t, cryptsetup, "attach", "vault", "/dev/vda", "-", "tpm2-device=auto,headless"),
		run(t, "dd", "if=/secret", "of=/dev/mapper/vault", "status=none"),
		run(t, cryptsetup, "detach", "vault"),
	}
	const bank = "sha256:4,17,18"
	sealing := []testbed.Step{
		tool(t, "createprimary", "-Q", "-C", "o", "-G", "ecc", "-c", "/tmp/primary"),
		tool(t, "createpolicy", "-Q", "--policy-pcr", "-l", bank, "-L", "/tmp/policy"),
		tool(t, "create", "-Q", "-C", "/tmp/primary", "-L", "/tmp/policy", "-i", "/secret", "-u", "/tmp/public", "-r", "/tmp/private"),
		tool(t, "load", "-Q", "-C", "/tmp/primary", "-u", "/tmp/public", "-r", "/tmp/private", "-c", "/tmp/sealed"),
	}
	unseal := tool(t, "unseal", "-c", "/tmp/sealed", "-p", "pcr:"+bank)
	extend := tool(t, "pcrextend", "4:sha256="+strings.Repeat("5a", 32))
	again := tool(t, "unseal", "-c", "/tmp/sealed", "-p", "pcr:"+bank, "-o", "/tmp/unsealed")
	pretend := []testbed.Step{
		tool(t, "pcrextend", "17:sha256="+strings.Repeat("5a", 32)),
		tool(t, "pcrextend", "18:sha256="+strings.Repeat("5a", 32)),
		tool(t, "pcrreset", "20"),
	}
	pcrs, log, yaml := telling(t)
	random := tool(t, "getrandom", "--hex", "16")

	steps := append([]testbed.Step{random}, volume...)
	steps = append(append(append(steps, sealing...), unseal), pretend...)
	said := h.boot(u, c, append(steps, pcrs, log, yaml, extend, again)...)
	held := parsePCRs(t, said.succeeded(t, pcrs))

	told(t, "OVMF, tpm-tis", said)
	t.Run("tpm2-tools work", func(t *testing.T) {
		if b, err := hex.DecodeString(said.succeeded(t, random)); err != nil || len(b) != 16 {
			t.Errorf("16 random bytes: %x, %v", b, err)
		}
		for _, s := range sealing {
			said.succeeded(t, s)
		}
		if got := said.succeeded(t, unseal); got != secret {
			t.Errorf("unsealed was %q", got)
		}
		said.succeeded(t, extend)
		if got := said.of(again); got.code == 0 || !strings.Contains(got.text, "policy check failed") {
			t.Errorf("after the kernel's PCR was another: %d, %s", got.code, got.text)
		}
	})
	t.Run("PCRs 17 to 22 are what was predicted, and not the guest's to change", func(t *testing.T) {
		l := measure.Launch{Guest: vtpm.Guest{UUID: u}, Start: measure.Firmware, Host: h.measured}
		want, err := l.Predict(held.Algs())
		must(t, err)
		for _, b := range held {
			for p := tpm.PCR(17); p <= 22; p++ {
				if diff := cmp.Diff(want.Value(b.Alg, p), b.Values[p]); diff != "" {
					t.Errorf("PCR %d of %s: %s", p, b.Alg, diff)
				}
			}
		}
		for _, s := range pretend {
			if got := said.of(s); got.code == 0 || !strings.Contains(got.text, "bad locality") {
				t.Errorf("%s ended with %d: %s", command(s), got.code, got.text)
			}
		}
	})
	t.Run("systemd binds a volume to it", func(t *testing.T) {
		for _, s := range volume {
			said.succeeded(t, s)
		}
	})
}

// telling are the steps that show the PCRs and the firmware's log.
func telling(t *testing.T) (pcrs, log, yaml testbed.Step) {
	return tool(t, "pcrread"), run(t, "base64", binary), run(t, "tpm2_eventlog", binary)
}

// told compares what they have shown.
func told(t *testing.T, firmware string, said answers) {
	pcrs, log, yaml := telling(t)
	held := parsePCRs(t, said.succeeded(t, pcrs))
	all := tpm.PCRs(0xff) // a firmware's PCRs
	t.Run(firmware+": the log leads to the PCRs", func(t *testing.T) {
		b, err := base64.StdEncoding.DecodeString(said.succeeded(t, log))
		must(t, err)
		parsed, err := eventlog.Parse(b)
		must(t, err)
		var measured tpm.PCRs
		for i := range parsed.Events {
			if e := &parsed.Events[i]; e.Extended() {
				measured |= tpm.PCRSet(e.PCR)
			}
		}
		if measured&all != all {
			t.Errorf("it has events for the PCRs %s alone", measured)
		}
		for _, r := range parsed.Verify(held, measured, true) {
			if r.Verdict != eventlog.Match {
				t.Errorf("PCR %d of %s: %s", r.PCR, r.Alg, r.Reason)
			}
		}
	})
	t.Run(firmware+": tpm2_eventlog reads the log", func(t *testing.T) {
		text := said.succeeded(t, yaml)
		if l := strings.ToLower(text); strings.Contains(l, "warning") || strings.Contains(l, "error") {
			t.Errorf("it complains: %s", text)
		}
		for p := range all.All() {
			if line := fmt.Sprintf("%-2d : 0x%s\n", p, held.Value(tpm.SHA256, p)); !strings.Contains(text+"\n", line) {
				t.Errorf("it does not compute %q: %s", line, text)
			}
		}
	})
}

// parsePCRs reads what tpm2_pcrread prints.
func parsePCRs(t *testing.T, text string) tpm.Banks {
	t.Helper()
	var banks tpm.Banks
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if value == "" {
			a, err := tpm.ParseAlg(name)
			must(t, err)
			banks = append(banks, tpm.Bank{Alg: a})
			continue
		}
		var p tpm.PCR
		_, err := fmt.Sscan(name, &p)
		must(t, err)
		d, err := hex.DecodeString(strings.TrimPrefix(strings.TrimSpace(value), "0x"))
		must(t, err)
		banks[len(banks)-1].Values[p] = d
	}
	if len(banks) == 0 {
		t.Fatalf("these are no PCRs: %s", text)
	}
	return banks
}
