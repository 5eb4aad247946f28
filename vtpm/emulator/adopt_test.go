package emulator_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm/emulator"
)

// kept starts a vTPM and has its descriptors as a keeper has them: copies.
func kept(t testing.TB, h *emulator.Host, v tpm.Version) (*emulator.Emulator, map[string]*os.File) {
	t.Helper()
	cfg := create(t, h, v)
	cfg.Outlives = true
	e := run(t, h, cfg, emulator.Inheritance{Launch: []byte("the host")})
	files, err := e.Files()
	if err != nil {
		t.Fatal(err)
	}
	return e, files
}

// A manager that died leaves its channels in any of these states.
func TestAdoptWhereverTheManagerDied(t *testing.T) {
	h := newHost(t)
	for _, v := range both {
		var long []byte
		if v == tpm.V20 {
			long = createRSA
		} else {
			long = packet(0xc1, 0x50) // TPM_SelfTestFull
		}
		set := []byte{0, 0, 0, 5, 0}
		for name, died := range map[string]struct {
			control, data []byte
			answered      bool // a whole answer is left
		}{
			"idle":                          {nil, nil, false},
			"in a control request":          {set, nil, false},
			"in a command":                  {nil, long, true},
			"in both":                       {[]byte{0, 0, 0, 9}, long, true},
			"in a command of no state":      {nil, random(v), true},
			"in a request behind a command": {set, random(v), true},
		} {
			t.Run(fmt.Sprint(v, " ", name), func(t *testing.T) {
				old, files := kept(t, h, v)
				want := readPCRs(t, old, v, 0, 17, 18)
				write(t, files[emulator.FileData], died.data)
				write(t, files[emulator.FileControl], died.control)
				e, answer, err := h.Adopt(context.Background(), v, files)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(e.Kill)
				if got := len(answer) >= 10 && int(binary.BigEndian.Uint32(answer[2:])) == len(answer) && code(answer) == 0; got != died.answered {
					t.Errorf("the answer is %x", answer)
				}
				if got := readPCRs(t, e, v, 0, 17, 18); fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("the PCRs are %v in place of %v", got, want)
				}
				if _, _, err := e.Execute(context.Background(), 2, random(v)); err != nil {
					t.Error(err)
				}
				if err := e.Stop(context.Background()); err != nil {
					t.Error(err)
				}
				<-e.Done()
			})
		}
	}
}

// A command that swtpm has not yet begun when it is asked how it stands comes behind the answer to that.
func TestAdoptBehindAnUnreadCommand(t *testing.T) {
	h := newHost(t)
	old, files := kept(t, h, tpm.V20)
	fd, err := unix.FcntlInt(files[emulator.FileControl].Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	syscall.Kill(old.PID(), syscall.SIGSTOP)
	write(t, files[emulator.FileData], createRSA)
	adopted := make(chan []byte)
	go func() {
		defer close(adopted)
		e, answer, err := h.Adopt(context.Background(), tpm.V20, files)
		if err != nil {
			t.Error(err)
			return
		}
		adopted <- answer
		e.Kill()
	}()
	for asked := 0; asked == 0 && err == nil; runtime.Gosched() {
		asked, err = unix.IoctlGetInt(fd, unix.TIOCOUTQ)
	}
	syscall.Kill(old.PID(), syscall.SIGCONT)
	if answer := <-adopted; len(answer) < 10 || code(answer) != 0 {
		t.Errorf("the answer is %x", answer)
	}
	<-adopted
}

func write(t testing.TB, f *os.File, b []byte) {
	t.Helper()
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
}

// The state is the one that stands on the disk, whether or not the dead manager saw it.
func TestAdoptedStateIsTheNewest(t *testing.T) {
	h := newHost(t)
	old, files := kept(t, h, tpm.V20)
	before := old.State()
	write(t, files[emulator.FileData], nvDefine)
	e, _, err := h.Adopt(context.Background(), tpm.V20, files)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Kill)
	if bytes.Equal(e.State(), before) {
		t.Error("the state is the one before the command")
	}
	if !bytes.Equal(old.State(), before) {
		t.Error("the old manager saw the command; the test shows nothing")
	}
}

// nvDefine is TPM2_NV_DefineSpace for an ordinary index of 8 bytes that its own password reads and writes.
var nvDefine = packet(0x8002, 0x12a,
	0x40, 0, 0, 1, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0,
	0, 0, 0, 14, 1, 0x80, 0, 1, 0, 0x0b, 0, 4, 0, 4, 0, 0, 0, 8)

func TestDeadEmulatorIsNotAdopted(t *testing.T) {
	h := newHost(t)
	e, files := kept(t, h, tpm.V20)
	e.Kill()
	if _, _, err := h.Adopt(context.Background(), tpm.V20, files); !errors.Is(err, emulator.ErrEnded) {
		t.Error(err)
	}
	_, files = kept(t, h, tpm.V20)
	files[emulator.FileData].Close()
	delete(files, emulator.FileData)
	if _, _, err := h.Adopt(context.Background(), tpm.V20, files); err == nil {
		t.Error("a vTPM without its data channel was taken over")
	}
}

// What was left of a channel that nobody of ours left so is no reason to trust the rest.
func TestStrangeChannelIsNotAdopted(t *testing.T) {
	h := newHost(t)
	e, files := kept(t, h, tpm.V20)
	write(t, files[emulator.FileControl], []byte{0, 0, 0, byte(swtpm.CmdGetInfo), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	if _, _, err := h.Adopt(context.Background(), tpm.V20, files); err == nil {
		t.Error("it was taken over")
	}
	<-e.Done()
}

// An adopted emulator that dies, or whose host closes, ends as one that we started.
func TestAdoptedEmulatorEnds(t *testing.T) {
	for name, kill := range map[string]func(*emulator.Host, *emulator.Emulator){
		"killed": func(_ *emulator.Host, e *emulator.Emulator) { syscall.Kill(e.PID(), syscall.SIGKILL) },
		"ended":  func(_ *emulator.Host, e *emulator.Emulator) { e.Kill() },
		"closed": func(h *emulator.Host, _ *emulator.Emulator) { h.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			open := len(entries(t, "/proc/self/fd"))
			old, files := kept(t, h, tpm.V20)
			e, _, err := h.Adopt(context.Background(), tpm.V20, files)
			if err != nil {
				t.Fatal(err)
			}
			kill(h, e)
			if _, _, err := e.Execute(context.Background(), 0, random(tpm.V20)); !errors.Is(err, emulator.ErrEnded) {
				<-e.Done()
				if _, _, err = e.Execute(context.Background(), 0, random(tpm.V20)); !errors.Is(err, emulator.ErrEnded) {
					t.Error(err)
				}
			}
			<-e.Gone()
			<-old.Gone()
			if now := len(entries(t, "/proc/self/fd")); now > open {
				t.Errorf("%d descriptors were left open", now-open)
			}
		})
	}
}

// The first process of an emulator's own process namespace is itself: nothing ends with the manager.
func TestNothingOfAnEmulatorIsTheManagers(t *testing.T) {
	h := isolated(t)
	e, files := kept(t, h, tpm.V20)
	for _, f := range files {
		defer f.Close()
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.PID()))
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("NSpid:\t%d\t1\n", e.PID()); !strings.Contains(string(b), want) {
		t.Errorf("it is not %q:\n%s", want, b)
	}
	for _, ns := range []string{"mnt", "pid", "net", "ipc", "uts"} {
		ours, err := os.Readlink("/proc/self/ns/" + ns)
		if err != nil {
			t.Fatal(err)
		}
		its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", e.PID(), ns))
		if err != nil {
			t.Fatal(err)
		}
		if its == ours {
			t.Errorf("its %s namespace is the manager's", ns)
		}
	}
}
