package testbed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Guest is a running QEMU: a PC with a serial line, a VGA screen, a keyboard
// and, where it is asked for, a TPM.
type Guest struct {
	dir     string // sockets, initramfs, screenshots; removed at the end
	console *console
	control *qmp
	process *exec.Cmd
	said    bytes.Buffer  // QEMU's own messages; read after ended
	ended   chan struct{} // closed when QEMU is gone
	status  error         // of QEMU; read after ended
}

// NewGuest gives a test a guest, which is killed when the test ends.
func NewGuest(t testing.TB, c Config) *Guest {
	t.Helper()
	Need(t, "qemu-system-x86_64")
	g, err := StartGuest(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Kill)
	return g
}

// StartGuest starts a guest. Its owner calls Kill at the end, also after the
// guest has ended by itself.
func StartGuest(c Config) (*Guest, error) {
	dir, err := os.MkdirTemp("", "aem-guest-") // short: a socket's path has at most 107 bytes
	if err != nil {
		return nil, err
	}
	g := &Guest{dir: dir, ended: make(chan struct{})}
	if err := g.start(c); err != nil {
		g.Kill()
		return nil, fmt.Errorf("start a guest: %w", err)
	}
	return g, nil
}

func (g *Guest) start(c Config) error {
	if c.Image != nil {
		k, err := FindKernel()
		if err != nil {
			return err
		}
		c.Kernel, c.Initrd = k.Image, filepath.Join(g.dir, "initrd")
		// A kernel that panics resets, so that nobody waits for it in vain.
		c.Append = strings.TrimSpace(c.Append + " console=ttyS0 panic=-1 quiet")
		b, err := c.Image.Build(k)
		if err != nil {
			return err
		}
		if err := os.WriteFile(c.Initrd, b, 0o600); err != nil {
			return fmt.Errorf("write the guest's initramfs: %w", err)
		}
	}
	// We listen and QEMU connects: so nothing is missed and nothing is polled.
	s := sockets{serial: filepath.Join(g.dir, "serial"), qmp: filepath.Join(g.dir, "qmp")}
	serial, err := net.Listen("unix", s.serial)
	if err != nil {
		return err
	}
	defer serial.Close()
	control, err := net.Listen("unix", s.qmp)
	if err != nil {
		return err
	}
	defer control.Close()

	if err := g.launch(c.args(s)); err != nil {
		return err
	}
	go func() { // a QEMU that refuses its arguments never connects
		<-g.ended
		serial.Close()
		control.Close()
	}()
	line, err := serial.Accept()
	if err != nil {
		return g.refusal(err)
	}
	g.console = newConsole(line)
	go g.console.listen()
	conn, err := control.Accept()
	if err != nil {
		return g.refusal(err)
	}
	if g.control, err = newQMP(conn); err != nil {
		return g.refusal(err)
	}
	return nil
}

// launch starts QEMU so that it dies with this process, however that ends.
func (g *Guest) launch(args []string) error {
	g.process = exec.Command("qemu-system-x86_64", args...)
	g.process.Stdout, g.process.Stderr = &g.said, &g.said
	g.process.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		Setpgid:   true, // a Ctrl-C at the terminal is for us, who then end the guest
	}
	started := make(chan error)
	go func() {
		// The kernel sends Pdeathsig when the thread ends that started the child,
		// so one thread starts it and stays until it is gone.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := g.process.Start()
		started <- err
		if err == nil {
			g.status = g.process.Wait()
		}
		close(g.ended)
	}()
	return <-started
}

// refusal explains why QEMU did not come up. Its sockets close a moment before
// it is gone and has said why.
func (g *Guest) refusal(err error) error {
	select {
	case <-g.ended:
		return fmt.Errorf("QEMU ended at once (%v): %s", g.status, bytes.TrimSpace(g.said.Bytes()))
	case <-time.After(10 * time.Second):
		return err
	}
}

// Expect waits until the guest has printed something on the serial line that
// the pattern (package regexp's) matches, and returns the match and its groups.
// Each call goes on where the last match ended. It gives up when the context
// ends, after five minutes where that has no deadline, or at once when the
// guest has ended ([ErrEnded]) or panicked ([ErrPanic]); the error then holds
// the last 40 lines.
func (g *Guest) Expect(ctx context.Context, pattern string) ([]string, error) {
	return g.console.expect(ctx, pattern)
}

// Transcript is all that the guest has printed on its serial line so far.
func (g *Guest) Transcript() []byte { return g.console.transcript() }

// Type sends text to the guest's serial line. Enter is \r.
func (g *Guest) Type(text string) error {
	if _, err := g.console.conn.Write([]byte(text)); err != nil {
		return fmt.Errorf("type to the guest's serial line: %w", err)
	}
	return nil
}

// QMP sends QEMU a command of its machine protocol, such as device_add, and
// returns its answer. Arguments are anything that marshals to a JSON object, or nil.
func (g *Guest) QMP(command string, arguments any) (json.RawMessage, error) {
	return g.control.execute(command, arguments)
}

// Reset presses the reset button: the guest starts again where its Config says
// Resets, and ends otherwise.
func (g *Guest) Reset() error {
	_, err := g.QMP("system_reset", nil)
	return err
}

// Wait waits until the guest has ended by itself: powered off, or reset where
// its Config does not say Resets. A panic is an error, and so is a QEMU that
// ended in another way than the guest's.
func (g *Guest) Wait(ctx context.Context) error {
	ctx, cancel := bounded(ctx)
	defer cancel()
	select {
	case <-g.ended:
	case <-ctx.Done():
		return g.console.explain(fmt.Errorf("the guest did not end: %w", ctx.Err()))
	}
	<-g.console.done // what it printed last may still be on its way
	if line := panicLine.Find(g.Transcript()); line != nil {
		return g.console.explain(fmt.Errorf("%w (%s)", ErrPanic, bytes.TrimSpace(line)))
	}
	if g.status != nil {
		return g.console.explain(fmt.Errorf("QEMU: %w: %s", g.status, bytes.TrimSpace(g.said.Bytes())))
	}
	return nil
}

// Kill cuts the guest's power, waits until it is gone and removes its sockets.
// The transcript stays. It may be called more than once.
func (g *Guest) Kill() {
	if g.process != nil && g.process.Process != nil {
		g.process.Process.Kill()
		<-g.ended
	}
	if g.console != nil {
		g.console.finish()
	}
	if g.control != nil {
		g.control.conn.Close()
	}
	os.RemoveAll(g.dir)
}
