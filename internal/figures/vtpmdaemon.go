package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm/admin"
	"github.com/antievilmaid/aem/vtpm/manager"
)

// daemon is vtpmd, a program of its own, over an emulated hardware TPM.
type daemon struct {
	*admin.Client
	program string
	where   []string
	run     string
	chip    *testbed.Emulator
	process *exec.Cmd
	said    bytes.Buffer
}

// newDaemon launches a machine and makes a store on it.
func newDaemon(dir string) (*daemon, error) {
	chip, err := testbed.StartEmulator(filepath.Join(dir, "tpm"), tpm.V20)
	if err != nil {
		return nil, err
	}
	d := &daemon{program: filepath.Join(dir, "vtpmd"), run: filepath.Join(dir, "run"), chip: chip}
	d.Client = admin.NewClient(filepath.Join(d.run, "admin.sock"))
	d.where = []string{"--tpm", "swtpm:" + chip.Socket(), "--launch-log", filepath.Join(dir, "log"), "--state", filepath.Join(dir, "state"), "--home", filepath.Join(dir, "home")}
	if err := d.setUp(dir); err != nil {
		chip.Stop()
		return nil, err
	}
	return d, nil
}

func (d *daemon) setUp(dir string) error {
	b, err := testbed.Program("./cmd/vtpmd")
	if err != nil {
		return err
	}
	conn, err := d.chip.Connect()
	if err != nil {
		return err
	}
	var log []byte
	if err = testbed.PowerOn(conn, tpm.V20); err == nil {
		log, err = testbed.LaunchLinux(conn, testbed.SampleLaunch(drtm.TXT, tpm.V20))
	}
	// Each program opens the TPM for itself.
	err = errors.Join(err, conn.Close(), os.WriteFile(d.program, b, 0o755), os.WriteFile(filepath.Join(dir, "log"), log, 0o600))
	if err != nil {
		return err
	}
	if out, err := exec.Command(d.program, append([]string{"init"}, d.where...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("vtpmd init: %w: %s", err, out)
	}
	return d.start()
}

// start returns when it answers.
func (d *daemon) start() error {
	d.said.Reset()
	d.process = exec.Command(d.program, append([]string{"--run", d.run}, d.where...)...)
	d.process.Stderr = &d.said
	if err := d.process.Start(); err != nil {
		return err
	}
	for range 600 {
		if _, err := d.Status(context.Background()); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	d.stop()
	return fmt.Errorf("vtpmd does not answer: %s", d.said.Bytes())
}

// stop ends it in order, with all that it runs.
func (d *daemon) stop() error {
	d.process.Process.Signal(syscall.SIGTERM)
	if err := d.process.Wait(); err != nil {
		return fmt.Errorf("vtpmd: %w: %s", err, d.said.Bytes())
	}
	return nil
}

// make makes a vTPM and returns its socket.
func (d *daemon) make(name string) (string, error) {
	me := uint32(os.Geteuid())
	v, err := d.Create(context.Background(), admin.Making{Name: name, Family: "2.0", Policy: manager.Policy{QEMU: &me}})
	return v.Socket, err
}
