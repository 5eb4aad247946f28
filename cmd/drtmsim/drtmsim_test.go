package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/handover"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/tpm"
)

// eachMachine runs a test for both platforms and both families.
func eachMachine(t *testing.T, test func(*testing.T, drtm.Platform, tpm.Version)) {
	for _, p := range []drtm.Platform{drtm.TXT, drtm.SKINIT} {
		for _, v := range []tpm.Version{tpm.V12, tpm.V20} {
			t.Run(p.Name()+" "+v.String(), func(t *testing.T) { test(t, p, v) })
		}
	}
}

// handedOver is what the guest finds.
func (m *machine) handedOver(t *testing.T) handover.Handover {
	t.Helper()
	b, err := os.ReadFile(m.handover)
	if err != nil {
		t.Fatal(err)
	}
	h, err := handover.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// predict computes the launch from the files, without drtmsim.
func (m *machine) predict(t *testing.T, v tpm.Version, algs []tpm.Alg) tpm.Banks {
	t.Helper()
	kernel, err := os.ReadFile(m.kernel)
	if err != nil {
		t.Fatal(err)
	}
	initrd, err := os.ReadFile(m.initrd)
	if err != nil {
		t.Fatal(err)
	}
	l := drtm.LinuxLaunch{Platform: m.platform, Version: v, Algs: algs, Loader: builtinLoader(m.platform),
		Kernel: kernel, Initrd: initrd, CommandLine: m.commandLine}
	ms, err := l.Measurements()
	if err != nil {
		t.Fatal(err)
	}
	banks, err := drtm.Predict(algs, ms)
	if err != nil {
		t.Fatal(err)
	}
	return banks
}

// verify demands that TPM, log and prediction agree.
func (m *machine) verify(t *testing.T, q *qemu, v tpm.Version) {
	t.Helper()
	actual := q.pcrs(v)
	if diff := cmp.Diff(values(m.predict(t, v, actual.Algs())), values(actual)); diff != "" {
		t.Errorf("the TPM holds something else than the files predict (-predicted +TPM):\n%s", diff)
	}
	h := m.handedOver(t)
	if h.Platform != m.platform {
		t.Errorf("the hand-over names %s", h.Platform)
	}
	log, err := eventlog.Parse(h.Log)
	if err != nil {
		t.Fatal(err)
	}
	if l := drtm.Check(log, actual); l.State != drtm.Verified || l.Platform != m.platform {
		t.Errorf("the guest's check of the launch: %s, %s: %s", l.State, l.Platform, l.Reason)
	}
}

func TestTheFirmwaresStartIsFollowedByALaunch(t *testing.T) {
	eachMachine(t, func(t *testing.T, p drtm.Platform, v tpm.Version) {
		m := start(t, p, v)
		q := m.connect(t)
		if h := m.handedOver(t); h.Platform != 0 || h.Log != nil {
			t.Errorf("before the launch, the hand-over names %s with a log of %d bytes", h.Platform, len(h.Log))
		}
		q.firmware(v)
		m.verify(t, q, v)
	})
}

func TestAllBanksAreMeasuredInto(t *testing.T) {
	m := start(t, drtm.TXT, tpm.V20)
	q := m.connect(t)
	q.firmware(tpm.V20)
	if n := len(q.pcrs(tpm.V20)); n < 2 {
		t.Errorf("the emulated TPM has %d banks; this shows nothing of the others", n)
	}
	m.verify(t, q, tpm.V20)
}

// A reset takes the old launch away, and the next one measures the files anew.
func TestResetLaunchesWhatTheFilesAreThen(t *testing.T) {
	eachMachine(t, func(t *testing.T, p drtm.Platform, v tpm.Version) {
		m := start(t, p, v)
		q := m.connect(t)
		q.firmware(v)
		before, generation := q.pcrs(v), m.handedOver(t).Generation
		write(t, m.initrd, []byte("an initramfs, evil"))
		q.reset()
		if h := m.handedOver(t); h.Log != nil || h.Generation <= generation {
			t.Errorf("after the reset, generation %d still has a log of %d bytes", h.Generation, len(h.Log))
		}
		q.firmware(v)
		m.verify(t, q, v)
		if cmp.Equal(values(before), values(q.pcrs(v))) {
			t.Error("another initramfs gave the same PCRs")
		}
	})
}

// The firmware may send TPM_Startup twice; the guest may, too. A launch for each
// would let a guest launch anew whenever it likes.
func TestOneLaunchForEachPowerOn(t *testing.T) {
	m := start(t, drtm.SKINIT, tpm.V20)
	q := m.connect(t)
	q.firmware(tpm.V20)
	generation := m.handedOver(t).Generation
	if rc, err := q.startup(tpm.V20); err != nil || rc == 0 {
		t.Fatalf("a second start: %#x, %v", rc, err)
	}
	if g := m.handedOver(t).Generation; g != generation {
		t.Errorf("a second start made generation %d of %d", g, generation)
	}
}

// The launch happens at localities 3 and 2. Were one of them left behind, every
// program in the guest could extend the launch's PCRs.
func TestTheLocalityIsGivenBack(t *testing.T) {
	// PCR 16 can be extended from everywhere, PCR 20 from locality 3 but not from
	// 0, PCR 21 only from 2 (PC Client Platform TPM Profile, clause 4.6.2).
	for chosen, allowed := range map[tpm.Locality]map[tpm.PCR]bool{
		0: {16: true, 20: false, 21: false},
		3: {16: true, 20: true, 21: false},
	} {
		for _, v := range []tpm.Version{tpm.V12, tpm.V20} {
			t.Run(fmt.Sprintf("%d %s", chosen, v), func(t *testing.T) {
				q := start(t, drtm.TXT, v).connect(t)
				q.locality(chosen)
				q.firmware(v)
				digests := tpm.SumAll(q.pcrs(v).Algs(), []byte("guest"))
				for p, ok := range allowed {
					if err := newMeasurer(q, v).Extend(p, digests); (err == nil) != ok {
						t.Errorf("PCR %d can be extended: %v; want %v", p, err, ok)
					}
				}
			})
		}
	}
}

func TestNoLaunchLeavesTheStartValues(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V12, tpm.V20} {
		t.Run(v.String(), func(t *testing.T) {
			m := start(t, drtm.TXT, v, func(c *config) { c.noLaunch, c.kernel = true, "" })
			q := m.connect(t)
			q.firmware(v)
			for _, b := range q.pcrs(v) {
				if !b.Values[17].All(0xff) || !b.Values[18].All(0xff) {
					t.Errorf("%s: PCR 17 is %s, PCR 18 is %s", b.Alg, b.Values[17], b.Values[18])
				}
			}
			if h := m.handedOver(t); h.Log != nil || h.Platform != 0 {
				t.Errorf("the hand-over names %s with a log of %d bytes", h.Platform, len(h.Log))
			}
		})
	}
}

func TestTheLogMayDoWithoutInitramfsAndHandover(t *testing.T) {
	m := start(t, drtm.SKINIT, tpm.V20, func(c *config) { c.initrdGiven, c.handover = false, "" })
	q := m.connect(t)
	q.firmware(tpm.V20)
	if b := q.pcrs(tpm.V20)[0]; b.Values[17].All(0xff) {
		t.Error("there was no launch")
	}
}

func TestQEMUsDeathEndsIt(t *testing.T) {
	m := start(t, drtm.TXT, tpm.V20)
	q := m.connect(t)
	q.firmware(tpm.V20)
	q.die()
	if err := <-m.done; err != nil {
		t.Errorf("it ended with: %v", err)
	}
	if _, err := os.Stat(m.listen); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// A QEMU that dies in the middle of a request leaves half of one.
func TestQEMUsDeathInTheMiddleOfARequestEndsIt(t *testing.T) {
	m := start(t, drtm.TXT, tpm.V20)
	q := m.connect(t)
	q.ctl.Write([]byte{0, 0, 0, byte(swtpm.CmdInit)}) // its payload is missing
	q.die()
	if err := <-m.done; err == nil {
		t.Error("half a request was taken for an orderly end")
	}
}

func TestOnceIsNotForEver(t *testing.T) {
	m := start(t, drtm.TXT, tpm.V20, func(c *config) { c.once = false })
	for range 2 {
		q := m.connect(t)
		q.firmware(tpm.V20)
		m.verify(t, q, tpm.V20)
		q.die()
	}
	m.end()
	if err := <-m.done; err != nil {
		t.Errorf("it ended with: %v", err)
	}
}

// An interrupt ends it also while QEMU is connected, and QEMU notices.
func TestInterruptEndsIt(t *testing.T) {
	m := start(t, drtm.TXT, tpm.V20)
	q := m.connect(t)
	m.end()
	if err := <-m.done; err != nil {
		t.Errorf("it ended with: %v", err)
	}
	if _, err := q.Send(probe); err == nil {
		t.Error("QEMU's data channel still works")
	}
}

func TestSwtpmsDeathIsAnError(t *testing.T) {
	for name, use := range map[string]func(*qemu) error{
		"control": func(q *qemu) error { _, err := q.request(swtpm.CmdStop, nil, nil); return err },
		"data":    func(q *qemu) error { _, err := q.Send(probe); return err },
	} {
		t.Run(name, func(t *testing.T) {
			m := start(t, drtm.TXT, tpm.V20)
			q := m.connect(t)
			m.emulator.Stop()
			if err := use(q); err == nil {
				t.Error("QEMU got an answer from a dead TPM")
			}
			if err := <-m.done; err == nil || !strings.Contains(err.Error(), "swtpm has ended") {
				t.Errorf("it ended with: %v", err)
			}
		})
	}
}

// fakeTPM is a TPM emulator that succeeds in everything, except that hash decides
// how it answers the start of the hash sequence: nil is no answer at all.
func fakeTPM(t *testing.T, hash func() []byte) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "drtmsim-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket = filepath.Join(dir, "ctrl")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer conn.Close()
		requests := swtpm.NewRequests(conn)
		for {
			q, err := requests.Next()
			if err != nil {
				return
			}
			answer := make([]byte, 4)
			switch q.Command {
			case swtpm.CmdSetDataFD:
				go succeed(q.File)
			case swtpm.CmdHashStart:
				answer = hash()
			}
			conn.Write(answer)
		}
	}()
	return socket
}

// succeed answers every TPM command with success.
func succeed(data *os.File) {
	defer data.Close()
	for {
		if _, err := swtpm.ReadPacket(data); err != nil {
			return
		}
		data.Write([]byte{0, 0xc4, 0, 0, 0, 10, 0, 0, 0, 0})
	}
}

func TestARefusedLaunchIsAnError(t *testing.T) {
	badOrdinal := func() []byte { return []byte{0, 0, 0, 0x0a} }
	m := prepare(t, drtm.TXT, fakeTPM(t, badOrdinal))
	m.run(t)
	q := m.connect(t)
	if rc, err := q.startup(tpm.V12); err == nil {
		t.Errorf("the guest got the answer %#x and would go on without a launch", rc)
	}
	err := <-m.done
	var refused *swtpm.ResultError
	if !errors.As(err, &refused) || refused.Command != swtpm.CmdHashStart {
		t.Errorf("it ended with: %v", err)
	}
	if h := m.handedOver(t); h.Log != nil {
		t.Error("a log of a launch that never was is handed over")
	}
}

// A TPM that hangs in the middle of a launch must not keep anybody: neither
// QEMU's death nor an interrupt may wait for it.
func TestAHungLaunchEnds(t *testing.T) {
	for name, end := range map[string]func(*machine, *qemu){
		"interrupt":    func(m *machine, _ *qemu) { m.end() },
		"QEMU's death": func(_ *machine, q *qemu) { q.die() },
	} {
		t.Run(name, func(t *testing.T) {
			hung := make(chan struct{})
			m := prepare(t, drtm.TXT, fakeTPM(t, func() []byte { close(hung); return nil }))
			m.run(t)
			q := m.connect(t)
			go q.startup(tpm.V12) // is never answered
			<-hung
			end(m, q)
			if err := <-m.done; err != nil {
				t.Errorf("it ended with: %v", err)
			}
		})
	}
}

// A file that vanishes between two launches must not become a launch without it.
func TestAFileThatVanishedIsAnError(t *testing.T) {
	m := start(t, drtm.TXT, tpm.V20)
	q := m.connect(t)
	q.firmware(tpm.V20)
	q.must(swtpm.CmdStop, nil, nil)
	if err := os.Remove(m.initrd); err != nil {
		t.Fatal(err)
	}
	if rsp, err := q.request(swtpm.CmdInit, make([]byte, 4), nil); err == nil {
		t.Errorf("the TPM is powered on, with the answer %#x", rsp)
	}
	if err := <-m.done; !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it ended with: %v", err)
	}
}

// The firmware waits for the launch, and gives a slow TPM up: what takes long is done
// before it begins to wait.
func TestTheFilesAreReadBeforeTheTPMIsStarted(t *testing.T) {
	m := start(t, drtm.TXT, tpm.V20)
	q := m.connect(t)
	for _, file := range []string{m.kernel, m.initrd} {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	q.firmware(tpm.V20)
	if h := m.handedOver(t); h.Log == nil {
		t.Error("there is no log of a launch")
	}
}

func TestALogThatDoesNotFitIsAnError(t *testing.T) {
	m := start(t, drtm.TXT, tpm.V12, func(c *config) { c.size = handover.MinSize })
	q := m.connect(t)
	if _, err := q.startup(tpm.V12); err == nil {
		t.Error("the guest goes on without a log")
	}
	if err := <-m.done; err == nil || !strings.Contains(err.Error(), "--size") {
		t.Errorf("it ended with: %v", err)
	}
}

func TestFilesAreCheckedBeforeQEMUComes(t *testing.T) {
	for name, change := range map[string]func(*testing.T, *machine){
		"no kernel":       func(t *testing.T, m *machine) { m.kernel += "-absent" },
		"not a kernel":    func(t *testing.T, m *machine) { write(t, m.kernel, []byte("#!/bin/sh")) },
		"no initramfs":    func(t *testing.T, m *machine) { m.initrd += "-absent" },
		"no loader":       func(t *testing.T, m *machine) { m.loader = m.kernel + "-absent" },
		"not a loader":    func(t *testing.T, m *machine) { m.loader = m.initrd; write(t, m.initrd, []byte{0, 0}) },
		"no hand-over":    func(t *testing.T, m *machine) { m.handover = filepath.Join(m.kernel, "x") },
		"no room to call": func(t *testing.T, m *machine) { m.listen = filepath.Join(m.kernel, "x") },
	} {
		t.Run(name, func(t *testing.T) {
			m := prepare(t, drtm.SKINIT, "/nonexistent")
			change(t, m)
			m.run(t)
			if err := <-m.done; err == nil {
				t.Error("it ended without an error")
			}
		})
	}
}

func TestWithoutSwtpmQEMUIsTurnedAway(t *testing.T) {
	m := prepare(t, drtm.TXT, "/nonexistent/socket")
	m.run(t)
	ctl, err := net.Dial("unix", m.listen)
	if err != nil {
		t.Fatal(err)
	}
	defer ctl.Close()
	if _, err := ctl.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("QEMU reads: %v", err)
	}
	if err := <-m.done; err == nil || !strings.Contains(err.Error(), "is swtpm running") {
		t.Errorf("it ended with: %v", err)
	}
}

func TestASocketInUseIsNotTaken(t *testing.T) {
	m := start(t, drtm.TXT, tpm.V20)
	if err := run(t.Context(), m.config, io.Discard); err == nil || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("a second drtmsim on the same socket: %v", err)
	}
}

func TestASocketLeftBehindIsReplaced(t *testing.T) {
	m := prepare(t, drtm.TXT, "/nonexistent/socket")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: m.listen, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	m.run(t)
	m.end()
	if err := <-m.done; err != nil {
		t.Errorf("it ended with: %v", err)
	}
}

// Xen and tboot are launched as Linux is: the TPM holds what the files lead to.
func TestOtherTargetsAreLaunched(t *testing.T) {
	for _, c := range []struct {
		kind     drtm.Kind
		platform drtm.Platform
	}{{drtm.Xen, drtm.TXT}, {drtm.Xen, drtm.SKINIT}, {drtm.XenEFI, drtm.SKINIT}, {drtm.Tboot, drtm.TXT}} {
		for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
			t.Run(fmt.Sprintf("%s %s %s", c.kind, c.platform.Name(), v), func(t *testing.T) {
				m := start(t, c.platform, v, func(f *config) {
					f.kind, f.initrdGiven = c.kind, false
					f.modules = []string{f.kernel + " root=/dev/sda quiet", f.initrd}
				})
				q := m.connect(t)
				q.firmware(v)
				boot := &drtm.Boot{Kind: c.kind, Loader: builtinLoader(c.platform), Image: bzImage(), Line: m.commandLine, Modules: []drtm.Module{
					{Content: bzImage(), Line: "root=/dev/sda quiet"}, {Content: []byte("an initramfs")},
				}}
				actual := q.pcrs(v)
				target, err := boot.Target(c.platform, v, actual.Algs())
				if err != nil {
					t.Fatal(err)
				}
				ms, err := target.Measurements()
				if err != nil {
					t.Fatal(err)
				}
				want, err := drtm.Predict(actual.Algs(), ms)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(values(want), values(actual)); diff != "" {
					t.Errorf("(-predicted +TPM)\n%s", diff)
				}
			})
		}
	}
}
