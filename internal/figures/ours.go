package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/pty"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// laptop is an emulated machine with a TPM 2.0 on which a sentence is sealed.
type laptop struct {
	dir      string
	disk     bool // an encrypted disk belongs to it
	emulator *testbed.Emulator
}

func newLaptop(dir, pin string, disk bool) (*laptop, error) {
	emulator, err := testbed.StartEmulator(dir, tpm.V20)
	if err != nil {
		return nil, err
	}
	l := &laptop{dir, disk, emulator}
	if err := l.boot(); err != nil {
		return nil, err
	}
	m, closer, err := l.open(nil)
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	home := aem.OpenHome(filepath.Join(dir, "home"))
	if _, err := m.Init(home, dir, nil); err != nil {
		return nil, err
	}
	if err := m.SetText(home, []byte("a sentence of usual length, such as this one")); err != nil {
		return nil, err
	}
	boot, err := m.Boot()
	if err != nil {
		return nil, err
	}
	// Two states, so that the policy has the branch that an update leaves behind.
	state, err := boot.Present("today")
	if err != nil {
		return nil, err
	}
	_, err = m.Seal(home, []seal.State{*state, *state}, []byte(pin))
	return l, err
}

func (l *laptop) stop() { l.emulator.Stop() }

func (l *laptop) where() aem.Where {
	return aem.Where{TPM: "swtpm:" + l.emulator.Socket(), Log: filepath.Join(l.dir, "log")}
}

// boot restarts and launches the machine.
func (l *laptop) boot() error {
	conn, err := swtpm.Dial(l.emulator.Socket())
	if err != nil {
		return err
	}
	defer conn.Close()
	// The first power-on finds a TPM that is off, and can't be told to shut down.
	_ = testbed.PowerOff(conn, tpm.V20)
	if err := testbed.PowerOn(conn, tpm.V20); err != nil {
		return err
	}
	log, err := testbed.LaunchLinux(conn, testbed.SampleLaunch(drtm.SKINIT, tpm.V20))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.dir, "log"), log, 0o600)
}

// open opens the machine. The disk's header is measured as a real one is; what is in it
// makes no difference to the TPM.
func (l *laptop) open(counter *tpm.Counter) (*aem.Machine, io.Closer, error) {
	m, closer, err := aem.Open(l.where(), counter)
	if err == nil && l.disk {
		m.Disks = func(algs []tpm.Alg) ([]seal.Measurement, error) {
			return []seal.Measurement{{Name: "disk header", PCR: tpm.PCRHost, Digests: tpm.SumAll(algs, []byte("header"))}}, nil
		}
	}
	return m, closer, err
}

// commands lists the TPM's commands from start to proof.
func (l *laptop) commands(pin string) ([]command, error) {
	if err := l.boot(); err != nil {
		return nil, err
	}
	var counter tpm.Counter
	m, closer, err := l.open(&counter)
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	m.InInitramfs = true
	seen := &trace{Channel: counter.Channel}
	counter.Channel = seen
	records, err := aem.ReadMedium([]string{l.dir}, 0)
	if err != nil {
		return nil, err
	}
	proof, err := m.Prove(context.Background(), records, func(context.Context, *aem.Guesses) ([]byte, error) { return []byte(pin), nil })
	if err != nil {
		return nil, err
	}
	proof.Wipe()
	return seen.commands, nil
}

// unseal runs the program on a terminal, up to the proof on the screen, which it
// confirms.
func (l *laptop) unseal(program string) (ms, mb float64, err error) {
	if err := l.boot(); err != nil {
		return 0, 0, err
	}
	x, err := pty.New()
	if err != nil {
		return 0, 0, err
	}
	defer x.HangUp()
	defer x.TTY.Close()
	w := l.where()
	cmd := exec.Command(program, "unseal", "--plain", "--tty", x.Path, "--medium", l.dir, "--tpm", w.TPM, "--log", w.Log)
	cmd.Stderr = os.Stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	if err := x.Wait("this is not mine.\r\n> "); err != nil {
		cmd.Process.Kill()
		return 0, 0, err
	}
	ms = float64(time.Since(start).Microseconds()) / 1000
	mb, err = peak(cmd.Process.Pid)
	x.Send("\n")
	if werr := cmd.Wait(); werr != nil {
		return 0, 0, fmt.Errorf("aem unseal: %w", werr)
	}
	return ms, mb, err
}
