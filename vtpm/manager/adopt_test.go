package manager_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
	"github.com/antievilmaid/aem/tpm2"
	"github.com/antievilmaid/aem/vtpm"
)

func (g *remote) pcrs(v tpm.Version) string {
	g.t.Helper()
	read := tpm12.New(g).ReadPCRs
	if v == tpm.V20 {
		read = tpm2.New(g).ReadPCRs
	}
	banks, err := read(all)
	must(g.t, err)
	return fmt.Sprint(banks)
}

func (g *remote) extend(v tpm.Version, p tpm.PCR, text string) {
	g.t.Helper()
	if v == tpm.V20 {
		must(g.t, tpm2.New(g).Extend(p, tpm.SumAll([]tpm.Alg{tpm.SHA256}, []byte(text))))
		return
	}
	must(g.t, tpm12.New(g).Extend(p, tpm.SumAll([]tpm.Alg{tpm.SHA1}, []byte(text))))
}

// ask sends a command that must succeed.
func (g *remote) ask(command []byte) []byte {
	g.t.Helper()
	rsp, err := g.Send(command)
	must(g.t, err)
	if !bytes.Equal(rsp[:2], command[:2]) || !bytes.Equal(rsp[6:10], make([]byte, 4)) {
		g.t.Fatalf("command %#x was answered with %x", command[6:10], rsp)
	}
	return rsp
}

func (g *remote) name() string {
	g.t.Helper()
	name, err := tpm2.New(g).EndorsementName()
	must(g.t, err)
	return string(name)
}

func packet(tag uint16, command uint32, body ...byte) []byte {
	p := binary.BigEndian.AppendUint16(nil, tag)
	p = binary.BigEndian.AppendUint32(p, uint32(10+len(body)))
	return append(binary.BigEndian.AppendUint32(p, command), body...)
}

// Commands for a counter in NV memory that its empty password increments and reads, and for a key.
var (
	nvDefine = packet(0x8002, 0x12a, 0x40, 0, 0, 1, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0,
		0, 0, 0, 14, 1, 0x80, 0, 1, 0, 0x0b, 2, 4, 0, 0x14, 0, 0, 0, 8)
	nvIncrement = packet(0x8002, 0x134, 1, 0x80, 0, 1, 1, 0x80, 0, 1, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0)
	nvRead      = packet(0x8002, 0x14e, 1, 0x80, 0, 1, 1, 0x80, 0, 1, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0, 0, 8, 0, 0)
	createRSA   = packet(0x8002, 0x131, 0x40, 0, 0, 7, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0,
		0, 24, 0, 1, 0, 0x0b, 0, 4, 0, 0x72, 0, 0, 0, 0x10, 0, 0x14, 0, 0x0b, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
)

func (g *remote) counter() uint64 { return binary.BigEndian.Uint64(g.ask(nvRead)[16:]) }

// The guest of a manager that was killed finds its TPM as it was, also where it counts as
// measured: what says that it runs already changes nothing.
func TestKilledManagersGuestGoesOn(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			m := newMortal(t)
			g := &remote{mortal: m, who: vtpm.Guest{UUID: vtpm.NewUUID(), Domain: "xen:1", Birth: "1", Returns: true}}
			m.do(order{Do: "create", Guest: g.who, Version: v})
			m.do(order{Do: "prepare", Guest: g.who})
			m.do(order{Do: "attach", Guest: g.who})
			g.extend(v, 8, "before")
			want, log := g.pcrs(v), m.do(order{Do: "log", Guest: g.who}).Bytes
			held := m.keeper.Names()
			for range 2 {
				m.restart()
				g.back()
				if got := g.pcrs(v); got != want {
					t.Errorf("the PCRs are %s in place of %s", got, want)
				}
				if got := m.do(order{Do: "log", Guest: g.who}).Bytes; !bytes.Equal(got, log) {
					t.Error("its log is another one")
				}
			}
			if got := m.keeper.Names(); fmt.Sprint(got) != fmt.Sprint(held) {
				t.Errorf("these are held: %q, and at first %q", got, held)
			}
			g.extend(v, 8, "after")
			if g.pcrs(v) == want {
				t.Error("the TPM does not go on")
			}
			m.do(order{Do: "end", Guest: g.who})
			if got := m.keeper.Names(); len(got) != 0 {
				t.Errorf("after the guest's end these are held: %q", got)
			}
		})
	}
}

// A command is answered that was under way when the manager died, and is not run a second time.
func TestCommandUnderWayIsAnsweredOnce(t *testing.T) {
	m := newMortal(t)
	g := m.guest(tpm.V20)
	flush := func(place byte) { g.ask(packet(0x8001, 0x165, 0x80, 0, 0, place)) }
	for _, pause := range []time.Duration{0, time.Millisecond, 10 * time.Millisecond} {
		g.died = func() { m.start(); g.back() }
		var rsp []byte
		for {
			deaths, manager := g.again, m.cmd.Process
			kill := time.AfterFunc(pause, func() { manager.Kill() })
			rsp = g.ask(createRSA)
			if g.again > deaths {
				break
			}
			// A key may be found sooner than that. Where the manager dies just now, the next command finds it.
			if !kill.Stop() {
				m.cmd.Wait()
			}
			flush(0)
		}
		g.died = nil
		// A second key would be in the next place.
		if handle := binary.BigEndian.Uint32(rsp[10:]); handle != 0x80000000 {
			t.Errorf("the key is at %#x", handle)
		}
		if handle := binary.BigEndian.Uint32(g.ask(createRSA)[10:]); handle != 0x80000001 {
			t.Errorf("the next key is at %#x", handle)
		}
		flush(0)
		flush(1)
	}
}

// A guest that was answered and sends the same command again, to the next manager, wants it done again.
func TestAnsweredCommandIsOver(t *testing.T) {
	m := newMortal(t)
	g := m.guest(tpm.V20)
	g.ask(nvDefine)
	g.ask(nvIncrement)
	first := g.counter()
	g.ask(nvIncrement)
	m.restart()
	g.back()
	g.ask(nvIncrement)
	if got := g.counter(); got != first+2 {
		t.Errorf("the counter is at %d, two increments after %d", got, first)
	}
}

// What the emulator wrote and the store had not yet is stored by the next manager, and answered.
func TestStateBetweenEmulatorAndStore(t *testing.T) {
	m := newMortal(t)
	g := m.guest(tpm.V20)
	g.ask(nvDefine)
	g.ask(nvIncrement)
	first := g.counter()
	pid := m.emulators()[0]
	m.do(order{Do: "execute without an end", Guest: g.who, Command: nvIncrement})
	m.restart()
	g.back()
	g.ask(nvIncrement) // again, because it was not answered
	if got := g.counter(); got != first+1 {
		t.Errorf("the counter is at %d, %d increments after %d", got, 1, first)
	}
	// It is in the store, also where nothing ends in order: another start finds it.
	must(t, unix.Kill(pid, unix.SIGKILL))
	m.restart()
	m.do(order{Do: "end unclaimed"}) // which waits until it is clear what became of it
	g.who.Birth = "2"
	m.do(order{Do: "attach", Guest: g.who})
	if got := g.counter(); got != first+1 {
		t.Errorf("then the counter is at %d", got)
	}
}

// A manager that dies at any time takes nothing from a guest that was promised it.
func TestManagerKilledAtRandom(t *testing.T) {
	rounds := 100
	if testing.Short() {
		rounds = 10
	}
	m := newMortal(t)
	g := m.guest(tpm.V20)
	g.ask(nvDefine)
	g.ask(nvIncrement)
	name, counter := g.name(), g.counter()
	// The PCR as it must be. It may also be as it is where one command was run twice, because the manager died
	// after it had answered the frontend, and before that (here the pipe to us) had passed it on.
	value := tpm.Digest(make([]byte, tpm.SHA256.Size()))
	twice := 0
	g.died = func() { m.start(); g.back() }
	for i := range rounds {
		kill := time.AfterFunc(time.Duration(rand.IntN(8000))*time.Microsecond, func() { m.cmd.Process.Kill() })
		for deaths := g.again; g.again == deaths; {
			before := g.again
			digest := tpm.SHA256.Sum(fmt.Append(nil, i))
			must(t, tpm2.New(g).Extend(8, []tpm.TaggedDigest{{Alg: tpm.SHA256, Digest: digest}}))
			value = tpm.SHA256.Sum(append(value, digest...))
			extended := g.again
			banks, err := tpm2.New(g).ReadPCRs(tpm.PCRSet(8))
			must(t, err)
			if got := banks.Bank(tpm.SHA256).Values[8]; !bytes.Equal(got, value) {
				value = tpm.SHA256.Sum(append(value, digest...))
				if extended == before || !bytes.Equal(got, value) {
					t.Fatalf("round %d: the PCR is not what was acknowledged", i)
				}
				twice++
			}
			before = g.again
			g.ask(nvIncrement)
			counter++
			incremented := g.again
			if got := g.counter(); got != counter {
				if incremented == before || got != counter+1 {
					t.Fatalf("round %d: the counter is at %d, and %d was acknowledged", i, got, counter)
				}
				counter++
				twice++
			}
		}
		kill.Stop()
	}
	if got := g.name(); got != name {
		t.Error("the endorsement key is another one")
	}
	t.Logf("%d deaths; %d commands were run twice", g.again, twice)
}

// A manager that is told to end leaves nothing running, and a guest's next start finds fresh PCRs.
func TestOrderlyEndKeepsNothing(t *testing.T) {
	m := newMortal(t)
	g := m.guest(tpm.V20)
	g.extend(tpm.V20, 8, "before")
	want := g.pcrs(tpm.V20)
	pid := m.emulators()[0]
	m.stop()
	if got := m.keeper.Names(); len(got) != 0 {
		t.Errorf("these are held: %q", got)
	}
	if runs(pid) {
		t.Error("its emulator still runs")
	}
	m.start()
	g.who.Birth = "2"
	m.do(order{Do: "attach", Guest: g.who})
	if g.pcrs(tpm.V20) == want {
		t.Error("the next guest found the old one's PCRs")
	}
}

// emulators lists the manager's.
func (m *mortal) emulators() (pids []int) {
	m.t.Helper()
	out, err := exec.Command("pgrep", "-P", fmt.Sprint(m.cmd.Process.Pid), "swtpm").Output()
	must(m.t, err)
	for line := range strings.Lines(string(out)) {
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		must(m.t, err)
		pids = append(pids, pid)
	}
	return pids
}

// runs reports whether a process has not ended.
func runs(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, ok := strings.Cut(string(b), ") ")
	return err == nil && ok && rest[0] != 'Z' && rest[0] != 'X'
}

// A guest whose emulator died has no TPM until it starts anew, however often managers come and go; also where
// a start of the same vTPM was prepared meanwhile.
func TestLostGuestGetsNoFreshPCRs(t *testing.T) {
	m := newMortal(t)
	g := m.guest(tpm.V20)
	pid := m.emulators()[0]
	m.kill()
	if !runs(pid) {
		t.Fatal("the emulator did not outlive its manager")
	}
	must(t, unix.Kill(pid, unix.SIGKILL))
	for range 2 {
		m.start()
		ask := func(late bool) {
			who := g.who
			who.Late = late
			if _, err := m.try(order{Do: "attach", Guest: who}); err == nil || !strings.Contains(err.Error(), "died with the manager") {
				t.Errorf("it was answered %v", err)
			}
		}
		ask(true) // while that is found out
		m.do(order{Do: "end unclaimed"})
		m.do(order{Do: "prepare", Guest: g.who})
		ask(true)
		ask(false)
		m.kill()
	}
	m.start()
	m.do(order{Do: "end unclaimed"})
	g.who.Birth = "2"
	m.do(order{Do: "attach", Guest: g.who})
	m.do(order{Do: "end", Guest: g.who})
	if got := m.keeper.Names(); len(got) != 0 {
		t.Errorf("these are held: %q", got)
	}
}

// An emulator that does not answer, as one does that a guest has taken over, keeps nobody else waiting.
func TestSilentEmulatorDelaysItsGuestAlone(t *testing.T) {
	m := newMortal(t)
	silent := m.guest(tpm.V20)
	pid := m.emulators()[0]
	g := m.guest(tpm.V20)
	m.kill()
	must(t, unix.Kill(pid, unix.SIGSTOP)) // only now: the kernel ends stopped processes whose parent dies
	m.start()
	g.back()
	g.extend(tpm.V20, 8, "x")
	must(t, unix.Kill(pid, unix.SIGCONT))
	silent.back()
	silent.extend(tpm.V20, 8, "x")
}

// A vTPM that the store does not have any more as it was does not go on.
func TestStoreThatForgot(t *testing.T) {
	m := newMortal(t)
	g := m.guest(tpm.V20)
	pid := m.emulators()[0]
	m.do(order{Do: "forget", Guest: g.who})
	m.restart()
	if _, err := m.try(order{Do: "attach", Guest: g.who}); err == nil {
		t.Error("it has a TPM")
	}
	if runs(pid) {
		t.Error("its emulator still runs")
	}
}

// Who was gone when the manager came back does not keep a vTPM for ever.
func TestUnclaimedEnd(t *testing.T) {
	m := newMortal(t)
	g := m.guest(tpm.V20)
	m.restart()
	next := g.who
	next.Birth = "2"
	if _, err := m.try(order{Do: "attach", Guest: next}); err == nil {
		t.Error("another guest got it while the first may live")
	}
	m.do(order{Do: "end unclaimed"})
	m.do(order{Do: "attach", Guest: next})
	m.do(order{Do: "end unclaimed"})
	g.extend(tpm.V20, 8, "it lives")
}

// A frontend that can't find its guest again has its vTPM end with the manager.
func TestGuestThatDoesNotReturn(t *testing.T) {
	m := newMortal(t)
	who := vtpm.Guest{UUID: vtpm.NewUUID(), Domain: "qemu:x", Birth: "1"}
	m.do(order{Do: "create", Guest: who, Version: tpm.V20})
	m.do(order{Do: "attach", Guest: who})
	if got := m.keeper.Names(); len(got) != 0 {
		t.Errorf("these are held: %q", got)
	}
	m.restart()
	who.Birth = "2"
	m.do(order{Do: "attach", Guest: who})
}

// Nothing is left open, however often managers come and go.
func TestDeathsLeaveNoDescriptors(t *testing.T) {
	m := newMortal(t)
	g := m.guest(tpm.V20)
	first := strings.Count(m.do(order{Do: "descriptors"}).Text, "\n")
	held := len(m.keeper.Names())
	for range 3 {
		m.restart()
		g.back()
		r := m.do(order{Do: "descriptors"})
		if now := strings.Count(r.Text, "\n"); now > first {
			t.Fatalf("%d descriptors in place of %d:\n%s", now, first, r.Text)
		}
		if now := len(m.keeper.Names()); now != held {
			t.Fatalf("%d files are held in place of %d", now, held)
		}
	}
}
