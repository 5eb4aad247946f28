package testbed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/tpm"
)

// Emulator is a running swtpm with its state in a folder of its own.
type Emulator struct {
	Version tpm.Version
	Dir     string // holds the state and the control socket

	process *exec.Cmd
	output  bytes.Buffer
}

// StartEmulator starts swtpm over the state in dir, which it makes where there
// is none. The TPM is off until somebody sends it a power-on: QEMU does, and so
// does [Emulator.PowerOn].
func StartEmulator(dir string, v tpm.Version) (*Emulator, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the emulator's folder: %w", err)
	}
	e := &Emulator{Version: v, Dir: dir}
	os.Remove(e.Socket())
	args := []string{"socket", "--tpmstate", "dir=" + dir, "--ctrl", "type=unixio,path=" + e.Socket()}
	if v == tpm.V20 {
		args = append(args, "--tpm2")
	}
	e.process = exec.Command("swtpm", args...)
	e.process.Stdout, e.process.Stderr = &e.output, &e.output
	if err := e.process.Start(); err != nil {
		return nil, fmt.Errorf("start swtpm: %w", err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		// The socket's file is there before anybody listens on it.
		if c, err := swtpm.DialControl(e.Socket()); err == nil {
			c.Close()
			return e, nil
		}
		if time.Now().After(deadline) {
			e.Stop()
			return nil, fmt.Errorf("swtpm does not listen: %s", e.output.Bytes())
		}
	}
}

// Socket is the path of the control socket. One client at a time is served.
func (e *Emulator) Socket() string { return filepath.Join(e.Dir, "ctrl") }

// Stop ends swtpm as a power cut would: what it had not yet written is gone.
func (e *Emulator) Stop() {
	e.process.Process.Kill()
	e.process.Wait()
}

// Connect opens the emulator without touching its power: the PCRs stay.
func (e *Emulator) Connect() (*swtpm.TPM, error) { return swtpm.Dial(e.Socket()) }

// PowerOn powers the TPM on (or off and on again) and sends the firmware's
// TPM_Startup(CLEAR). The PCRs are as after a restart without a launch.
func PowerOn(t *swtpm.TPM, v tpm.Version) error {
	if err := t.Init(); err != nil {
		return err
	}
	return raw(t, startup(v))
}

// PowerOff sends the orderly shutdown that an operating system sends. Without
// it, a TPM 2.0 counts the next start as a failed try at authorisation.
func PowerOff(t *swtpm.TPM, v tpm.Version) error {
	if v == tpm.V12 {
		return nil // TPM_SaveState is for sleep; a restart needs nothing
	}
	return raw(t, packet(0x8001, 0x145, []byte{0, 0})) // TPM2_Shutdown(CLEAR)
}

func startup(v tpm.Version) []byte {
	if v == tpm.V20 {
		return packet(0x8001, 0x144, []byte{0, 0}) // TPM2_Startup(CLEAR)
	}
	return packet(0x00c1, 0x99, []byte{0, 1}) // TPM_Startup(ST_CLEAR)
}

func packet(tag uint16, code uint32, body []byte) []byte {
	p := binary.BigEndian.AppendUint16(nil, tag)
	p = binary.BigEndian.AppendUint32(p, uint32(10+len(body)))
	p = binary.BigEndian.AppendUint32(p, code)
	return append(p, body...)
}

func raw(t tpm.Channel, cmd []byte) error {
	rsp, err := t.Send(cmd)
	if err != nil {
		return err
	}
	if len(rsp) < 10 {
		return errors.New("the TPM's response is shorter than its header")
	}
	if rc := binary.BigEndian.Uint32(rsp[6:]); rc != 0 {
		return fmt.Errorf("the TPM answered %#x", rc)
	}
	return nil
}

// NewTPM gives a test a TPM of its own: powered on, started, not launched, with
// a connection that is closed when the test ends. A TPM 1.2 has its endorsement
// key already and no owner; all TPMs 1.2 from here have the same key.
func NewTPM(t testing.TB, v tpm.Version) (*swtpm.TPM, *Emulator) {
	t.Helper()
	return newTPM(t, v, func(dir string) error {
		if v != tpm.V12 {
			return nil
		}
		state, err := pristine12()
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, state12), state, 0o600)
	})
}

// NewForeignTPM is NewTPM for a chip with an endorsement key that no other has.
func NewForeignTPM(t testing.TB, v tpm.Version) (*swtpm.TPM, *Emulator) {
	t.Helper()
	return newTPM(t, v, func(dir string) error {
		if v != tpm.V12 {
			return nil // each TPM 2.0 makes its own seed
		}
		return MakeEK12(dir)
	})
}

// newTPM starts a TPM over the state that make puts into its folder.
func newTPM(t testing.TB, v tpm.Version, make func(dir string) error) (*swtpm.TPM, *Emulator) {
	t.Helper()
	Need(t, "swtpm")
	// t.TempDir's path may be longer than a socket's path may be.
	dir, err := os.MkdirTemp("", "aem-tpm-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := make(dir); err != nil {
		t.Fatal(err)
	}
	e, err := StartEmulator(dir, v)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Stop)
	c, err := e.Connect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := PowerOn(c, v); err != nil {
		t.Fatal(err)
	}
	return c, e
}

// state12 is the file in which swtpm keeps a TPM 1.2's permanent state.
const state12 = "tpm-00.permall"

// pristine12 makes the state of a TPM 1.2 with an endorsement key, once for the
// process: generating that key takes a quarter of a second and more.
var pristine12 = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "aem-tpm-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := MakeEK12(dir); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, state12))
})

// MakeEK12 makes a TPM 1.2 in dir as its manufacturer would: with an
// endorsement key (TPM_CreateEndorsementKeyPair, RSA 2048).
func MakeEK12(dir string) error {
	e, err := StartEmulator(dir, tpm.V12)
	if err != nil {
		return err
	}
	defer e.Stop()
	c, err := e.Connect()
	if err != nil {
		return err
	}
	defer c.Close()
	if err := PowerOn(c, tpm.V12); err != nil {
		return err
	}
	params := []byte{0, 0, 0, 1, 0, 3, 0, 1, 0, 0, 0, 12, 0, 0, 8, 0, 0, 0, 0, 2, 0, 0, 0, 0}
	if err := raw(c, packet(0x00c1, 0x78, append(make([]byte, 20), params...))); err != nil {
		return fmt.Errorf("make the endorsement key: %w", err)
	}
	return c.Shutdown()
}
