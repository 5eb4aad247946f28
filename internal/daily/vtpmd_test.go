//go:build debian

package daily_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/testbed"
)

// own is the vTPM of the system itself.
const own = "11111111-2222-3333-4444-555555555555"

// emulator copies this side's swtpm into the machine, and of its libraries those that are not there.
func (l *laptop) emulator() {
	l.t.Helper()
	for _, file := range programFiles(l.t, "swtpm") {
		b, err := os.ReadFile(file)
		l.must(err)
		if l.run("ls "+file+" 2>/dev/null; true") == "" {
			l.must(l.m.CopyIn(l.ctx, file, 0o755, b))
		}
	}
}

// programFiles are a program's file and those of its libraries.
func programFiles(t *testing.T, name string) []string {
	t.Helper()
	testbed.Need(t, name, "ldd")
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	said, err := exec.Command("ldd", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	files := []string{path}
	for _, word := range strings.Fields(string(said)) {
		if strings.HasPrefix(word, "/") {
			files = append(files, word)
		}
	}
	return files
}

// unit is what systemd says of vtpmd's unit.
func (l *laptop) unit(properties ...string) string {
	l.t.Helper()
	return l.run("systemctl show vtpmd -p " + strings.Join(properties, " -p "))
}

// is demands that systemd says something of vtpmd's unit.
func (l *laptop) is(want ...string) {
	l.t.Helper()
	for _, w := range want {
		name, _, _ := strings.Cut(w, "=")
		if got := strings.TrimSpace(l.unit(name)); got != w {
			l.t.Errorf("systemd says %s and not %s; the journal: %s", got, w, l.run("journalctl -b -u vtpmd -o cat --no-pager | tail -n 30"))
		}
	}
}

// pcrs reads PCRs in the words of tpm2_pcrread.
func (l *laptop) pcrs(device, which string) string {
	l.t.Helper()
	return l.run("tpm2_pcrread -T device:" + device + " " + which)
}

// pcr is a PCR in what tpm2_pcrread says of one bank.
func pcr(t *testing.T, said string, number int) string {
	t.Helper()
	for line := range strings.Lines(said) {
		name, value, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(name) == fmt.Sprint(number) {
			return strings.ToLower(strings.TrimPrefix(strings.TrimSpace(value), "0x"))
		}
	}
	t.Fatalf("there is no PCR %d in %s", number, said)
	return ""
}

// extended is zero, extended once by the digest of a text, in the SHA-256 bank.
func extended(text string) string {
	d := sha256.Sum256([]byte(text))
	h := sha256.Sum256(append(make([]byte, sha256.Size), d[:]...))
	return hex.EncodeToString(h[:])
}

// guestsTPMs goes through the life of vtpmd's unit under a real systemd, with the system's own vTPM as
// the guest, and leaves the unit enabled. The boot was launched.
func (l *laptop) guestsTPMs() {
	l.t.Helper()
	l.emulator()
	l.run("tpm2_getcap handles-nv-index >/root/nv-a")
	l.says("was made", "vtpmd init")
	// What vtpmd has in the TPM is not what aem-setup has to remove.
	l.run(`tpm2_getcap handles-nv-index >/root/nv-b; diff /root/nv-a /root/nv-b | sed -n 's/^> //p' >>/root/nv-before; sort -o /root/nv-before /root/nv-before`)
	if out := l.run("systemd-analyze verify --man=no vtpmd.service 2>&1"); out != "" {
		l.t.Errorf("systemd-analyze says of the unit: %s", out)
	}

	// systemctl comes back when guests can ask.
	l.says("exit 0", "systemctl enable --now vtpmd >/root/enabled 2>&1 || cat /root/enabled; vtpmctl list; echo exit $?")
	l.is("Type=notify", "ActiveState=active", "StatusText=0 vTPMs; launched", "NFileDescriptorStore=0", "FileDescriptorStoreMax=32769")

	// The system itself gets one.
	l.run("vtpmctl create --name host --uuid " + own + " && modprobe tpm_vtpm_proxy")
	l.run(`echo 'VTPMD_OPTIONS="--host-vtpm ` + own + `"' >/etc/default/vtpmd && systemctl restart vtpmd && udevadm wait --timeout=120 /dev/tpmrm1`)
	l.is("ActiveState=active", "NFileDescriptorStore=7", "StatusText=1 vTPMs; launched")
	l.says("host", "vtpmctl list")
	hardware := l.pcrs("/dev/tpmrm0", "sha256:17,18")
	if got, want := l.foretold(), l.pcrs("/dev/tpmrm1", "sha256:1,4,5,17,18"); !strings.Contains(want, "17") || foretoldOf(l.t, want) != got {
		l.t.Errorf("this system's vTPM has %s and not %s", want, got)
	}
	random := "tpm2_getrandom -T device:/dev/tpmrm1 --hex 16"
	if first, second := l.run(random), l.run(random); len(strings.TrimSpace(first)) != 32 || first == second {
		l.t.Errorf("random bytes of this system's vTPM are %s, and then %s", first, second)
	}
	l.says("tpm-rng-1", "cat /sys/class/misc/hw_random/rng_available")
	l.says("/dev/tpmrm0", "ls -l /proc/$(systemctl show -p MainPID --value vtpmd)/fd")

	l.killed()
	if got := l.pcrs("/dev/tpmrm0", "sha256:17,18"); got != hardware {
		l.t.Errorf("the hardware's TPM has %s, and had %s", got, hardware)
	}

	// An end in order leaves nothing behind.
	l.run("systemctl stop vtpmd")
	l.is("ActiveState=inactive", "Result=success", "NFileDescriptorStore=0")
	if out := l.run("pidof swtpm; ls -d /dev/tpm1 /run/vtpmd 2>/dev/null; true"); out != "" {
		l.t.Errorf("after vtpmd ended there is still %s", out)
	}
	l.says("ended", "vtpmctl audit 2>/dev/null || cat /var/lib/vtpmd/journal")
}

// foretold is what docs/formats/vtpm-measurements.md says of the PCRs 1, 4, 5, 17 and 18 of a vTPM on this
// machine, whose guest was late.
func (l *laptop) foretold() string {
	l.t.Helper()
	state := "aem vtpm host 1\ngrade launched\n"
	for _, bank := range []string{"sha1", "sha256", "sha384", "sha512"} {
		said := l.run("tpm2_pcrread -T device:/dev/tpmrm0 " + bank + ":17,18")
		if !strings.Contains(said, "17") {
			continue // not a bank of this TPM's
		}
		for _, n := range []int{17, 18} {
			state += fmt.Sprintf("pcr %d %s %s\n", n, bank, pcr(l.t, said, n))
		}
	}
	unmeasured := extended("aem vtpm: unmeasured guest")
	guest := extended("aem vtpm guest 1\nvtpm " + own + "\nstart late\nconfiguration -\nkernel -\ncommand-line -\ninitrd -\ncopies -\n")
	return fmt.Sprint([]string{unmeasured, unmeasured, unmeasured, extended(state), guest})
}

func foretoldOf(t *testing.T, said string) string {
	t.Helper()
	var list []string
	for _, n := range []int{1, 4, 5, 17, 18} {
		list = append(list, pcr(t, said, n))
	}
	return fmt.Sprint(list)
}

// killAndWait kills vtpmd, while a program has the system's vTPM open, and comes back when systemd says that
// the next one is ready. The program then asks for random bytes.
const killAndWait = `set -e
exec 3<>/dev/tpm1
cursor=$(journalctl -u vtpmd -n 0 --show-cursor | sed -n 's/^-- cursor: //p')
mkfifo /run/said
journalctl -u vtpmd -f -n all -o cat --after-cursor="$cursor" >/run/said 2>/dev/null &
kill -9 $(systemctl show -p MainPID --value vtpmd)
grep -q -m 1 '^Started' /run/said
kill $!
rm /run/said
printf '\200\001\0\0\0\014\0\0\001\173\0\010' >&3
dd bs=4096 count=1 <&3 2>/dev/null | od -An -tx1 -N 12 | tr -d ' \n'`

// killed kills vtpmd under the system's vTPM: the next one finds it as it was.
func (l *laptop) killed() {
	l.t.Helper()
	l.run("tpm2_pcrextend -T device:/dev/tpmrm1 9:sha256=" + strings.Repeat("5a", sha256.Size))
	before, emulator := l.pcrs("/dev/tpmrm1", "sha256:0,1,4,5,9,16,17,18"), l.run("pidof swtpm")
	if pcr(l.t, before, 9) == strings.Repeat("0", 64) {
		l.t.Error("PCR 9 was not extended")
	}
	l.must(l.m.CopyIn(l.ctx, "/root/kill-and-wait", 0o755, []byte(killAndWait)))
	if got, want := l.run("sh /root/kill-and-wait"), "80010000001400000000"; !strings.HasPrefix(got, want) {
		l.t.Errorf("who has the device open reads %s, and not %s and random bytes", got, want)
	}
	l.is("NRestarts=1", "ActiveState=active", "NFileDescriptorStore=7")
	if diff := cmp.Diff(before, l.pcrs("/dev/tpmrm1", "sha256:0,1,4,5,9,16,17,18")); diff != "" {
		l.t.Errorf("after vtpmd was killed: %s", diff)
	}
	if got := l.run("pidof swtpm"); got != emulator {
		l.t.Errorf("the emulators are %s, and were %s", got, emulator)
	}
	l.says("it goes on where it was", "journalctl -u vtpmd -o cat --no-pager")
}

// guestsTPMsStayClosed is a boot that was launched, and that nobody approved for vtpmd: its unit, which is
// enabled, failed once and for all, and the journal says why.
func (l *laptop) guestsTPMsStayClosed() {
	l.t.Helper()
	l.run("systemctl is-system-running --wait >/dev/null; true")
	l.is("ActiveState=failed", "Result=exit-code", "ExecMainStatus=4", "NRestarts=0")
	l.says("This boot is not one that was approved, so the guests' TPMs stay closed.", "journalctl -b -u vtpmd -o cat --no-pager")
	if out := l.run("pidof swtpm; ls /dev/tpm1 2>/dev/null; true"); out != "" {
		l.t.Errorf("in a boot that is not approved there is %s", out)
	}
	l.says("This boot is not one that was approved", "vtpmctl doctor; true")
}
