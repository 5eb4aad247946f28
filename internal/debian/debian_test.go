package debian_test

import (
	"testing"
	"time"

	"github.com/antievilmaid/aem/internal/debian"
	"github.com/antievilmaid/aem/tpm"
)

func TestTry(t *testing.T) {
	i, err := debian.Build(t.Context(), debian.Variant{Initramfs: debian.InitramfsTools})
	if err != nil {
		t.Fatal(err)
	}
	d, err := i.Overlay(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t0 := time.Now()
	lap := func(s string) { t.Logf("%6.1f %s", time.Since(t0).Seconds(), s) }
	m, err := d.Boot(debian.Config{TPM: tpm.V20, TPMDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { t.Logf("%s", m.Transcript()) }()
	defer m.Kill()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err = m.Expect(t.Context(), "Loading Linux")
	check(err)
	lap("GRUB")
	n, err := m.ExpectPassphrasePrompt(t.Context())
	check(err)
	lap("prompt " + n)
	check(m.Type(debian.Passphrase + "\r"))
	_, err = m.Expect(t.Context(), "set up successfully")
	check(err)
	lap("unlocked")
	check(m.Login(t.Context(), "root", "root"))
	lap("login")
	out, exit, err := m.Run(t.Context(), "systemd-analyze; systemd-analyze blame | head -20; systemctl --failed; lsblk; df -h; cat /proc/cmdline; free -m; exit 3")
	t.Logf("%s %d %v", out, exit, err)
	lap("ran")
	out, exit, err = m.Run(t.Context(), "cp /boot/grub/grub.cfg /tmp; time grub-mkconfig >/tmp/new; diff /tmp/grub.cfg /tmp/new; time update-initramfs -u")
	t.Logf("%s %d %v", out, exit, err)
	lap("ran")
	check(m.PowerOff(t.Context()))
	lap("off")
}
