package xenproof

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/internal/xenbed"
	"github.com/antievilmaid/aem/internal/xenbed/order"
	"github.com/antievilmaid/aem/tpm"
)

// Machine is a computer that runs Xen: its TPM, a disk, and what it boots.
type Machine struct {
	dir     string
	drtmsim string
	config  testbed.Config
	kernel  string // dom0's, and its command line
	initrd  string

	guests []*guest
	dom0   *Dom0 // while it runs
	log    bytes.Buffer

	xenstore bytes.Buffer // all that stood there after each chapter

	consoles string // a folder
	boots    int
}

// NewMachine builds one in a folder, whose path has to be short: sockets are in it. What its boots print comes into
// another folder, a file for each.
func NewMachine(dir, consoles string) (*Machine, error) {
	if err := os.MkdirAll(consoles, 0o755); err != nil {
		return nil, err
	}
	m := &Machine{dir: dir, consoles: consoles, drtmsim: filepath.Join(dir, "drtmsim"), guests: guests()}
	program, err := testbed.Program("./cmd/drtmsim")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(m.drtmsim, program, 0o755); err != nil {
		return nil, err
	}
	image, err := m.image()
	if err != nil {
		return nil, err
	}
	if m.config, err = xenbed.Config(dir, image); err != nil {
		return nil, err
	}
	var ok bool
	if m.kernel, m.initrd, ok = strings.Cut(m.config.Initrd, ","); !ok {
		return nil, fmt.Errorf("%q has no two modules", m.config.Initrd)
	}
	if out, err := exec.Command(m.drtmsim, "loader", "--platform", platform, m.path("loader")).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("write the loader's image: %w: %s", err, out)
	}
	if err := os.WriteFile(m.path("guest-disk"), make([]byte, 1<<20), 0o600); err != nil {
		return nil, err
	}
	return m, testbed.Ext4Image(m.path("disk"), 64, "")
}

const platform = "skinit"

// note is what the evil maid changes in dom0's initramfs.
const note = "made by its owner\n"

func (m *Machine) path(name string) string { return filepath.Join(m.dir, name) }

// image is dom0's initramfs: Xen's tools, ours, and the guests.
func (m *Machine) image() (*testbed.Image, error) {
	im, err := xenbed.Dom0()
	if err != nil {
		return nil, err
	}
	im.Load = append(im.Load, append(testbed.DiskModules(), "virtio_console", "xen_blkback")...)
	im.File("etc/note", 0o644, []byte(note))
	im.Symlink("etc/xen/scripts/block", xenbed.Helper)
	root, err := testbed.ModuleRoot()
	if err != nil {
		return nil, err
	}
	// Nothing else here is a script.
	if err := xenbed.AddProgram(im, "bin/sh", "/bin/sh"); err != nil {
		return nil, err
	}
	im.CopyFile("usr/lib/vtpmd/vtpm-bootloader", 0o755, filepath.Join(root, "dist", "vtpm", "vtpm-bootloader"))
	for _, name := range []string{"aem", "aem-setup", "vtpmd", "vtpmctl"} {
		if err := im.Program("bin/"+name, "./cmd/"+name); err != nil {
			return nil, err
		}
	}
	im.Steps = append(im.Steps, testbed.Mount("/dev/vda", "/disk"), testbed.Run(xenbed.Helper, "obey"))
	for _, g := range m.guests {
		guest, err := xenbed.NewGuest(testbed.Run(xenbed.Helper, "answer"))
		if err != nil {
			return nil, err
		}
		guest.Load = []string{"xen_tpmfront"}
		guest.Symlink("sbin/poweroff", xenbed.Helper)
		if err := xenbed.AddGuest(im, g.name, g.lines, guest); err != nil {
			return nil, err
		}
	}
	return im, nil
}

// Dom0 is a boot of the machine.
type Dom0 struct {
	*testbed.Guest
	m    *Machine
	chip *testbed.Emulator
	sim  *exec.Cmd
	said bytes.Buffer // by drtmsim
	conn net.Conn
	in   *json.Decoder
	out  *json.Encoder
}

// boot launches Xen with an initramfs for dom0, and waits until dom0 is up.
func (m *Machine) boot(ctx context.Context, initrd string) (_ *Dom0, err error) {
	d := &Dom0{m: m}
	defer func() {
		if err != nil {
			d.cut()
		}
	}()
	if d.chip, err = testbed.StartEmulator(m.path("tpm"), tpm.V20); err != nil {
		return nil, err
	}
	listen, port := m.path("sim"), m.path("port")
	os.Remove(listen)
	os.Remove(port)
	d.sim = exec.Command(m.drtmsim, "--listen", listen, "--swtpm", d.chip.Socket(), "--handover", m.path("handover"), "--platform", platform, "--loader", m.path("loader"),
		"--target", "xen", "--kernel", m.config.Kernel, "--append", m.config.Append, "--module", m.kernel, "--module", initrd)
	d.sim.Stdout, d.sim.Stderr = &d.said, &d.said
	if err := d.sim.Start(); err != nil {
		return nil, err
	}
	if err := await(ctx, listen); err != nil {
		return nil, fmt.Errorf("%w; drtmsim said: %s", err, d.said.Bytes())
	}
	l, err := net.Listen("unix", port)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	c := m.config
	c.Initrd = m.kernel + "," + initrd
	c.TPM, c.HandOver, c.Drives = listen, m.path("handover"), []testbed.Drive{{Path: m.path("disk")}, {Path: m.path("guest-disk"), ReadOnly: true}}
	c.Extra = append(c.Extra[:len(c.Extra):len(c.Extra)], "-chardev", "socket,id=orders,path="+port, "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=orders")
	if d.Guest, err = testbed.StartGuest(c); err != nil {
		return nil, err
	}
	if d.conn, err = l.Accept(); err != nil {
		return nil, err
	}
	d.in, d.out = json.NewDecoder(d.conn), json.NewEncoder(d.conn)
	var hello order.Result
	if err := d.receive(ctx, &hello); err != nil {
		return nil, err
	}
	m.dom0 = d
	return d, nil
}

// await waits for a file that another program makes.
func await(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	pause := time.NewTicker(5 * time.Millisecond)
	defer pause.Stop()
	for {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s does not appear: %w", filepath.Base(path), ctx.Err())
		case <-pause.C:
		}
	}
}

// receive waits for what dom0 says. What it printed last is in the error.
func (d *Dom0) receive(ctx context.Context, r *order.Result) error {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { d.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := d.in.Decode(r); err != nil {
		text := d.Transcript()
		return fmt.Errorf("dom0 says nothing: %w; its last lines:\n%s", err, text[max(0, len(text)-3000):])
	}
	return nil
}

// do has dom0 run a program.
func (d *Dom0) do(ctx context.Context, o order.Order) (order.Result, error) {
	var r order.Result
	if err := d.out.Encode(o); err != nil {
		return r, err
	}
	err := d.receive(ctx, &r)
	return r, err
}

// run has dom0 run a program that has to end well, and returns what it said.
func (d *Dom0) run(ctx context.Context, args ...string) (string, error) {
	r, err := d.do(ctx, order.Order{Args: args})
	if err == nil && r.Exit != 0 {
		err = fmt.Errorf("%s: exit %d: %s", strings.Join(args, " "), r.Exit, r.Out)
	}
	return r.Out, err
}

// fails has dom0 run a program that has to end with an exit code, and to say something.
func (d *Dom0) fails(ctx context.Context, exit int, words string, args ...string) error {
	r, err := d.do(ctx, order.Order{Args: args})
	if err == nil && (r.Exit != exit || !strings.Contains(r.Out, words)) {
		err = fmt.Errorf("%s: exit %d, and not %d with %q: %s", strings.Join(args, " "), r.Exit, exit, words, r.Out)
	}
	return err
}

// off switches the machine off in order, after it printed what its guests did.
func (d *Dom0) off(ctx context.Context) error {
	if _, err := d.run(ctx, xenbed.Helper, "consoles"); err != nil {
		return err
	}
	if err := d.out.Encode(order.Order{}); err != nil {
		return err
	}
	err := d.Wait(ctx)
	d.cut()
	return err // of an end that was not in order
}

// cut takes everything down, and keeps what was said. It may be called more than once.
func (d *Dom0) cut() {
	if d.Guest != nil {
		d.Kill()
		said := append(d.Transcript(), d.said.Bytes()...)
		d.m.log.Write(said)
		d.m.boots++
		if err := os.WriteFile(filepath.Join(d.m.consoles, fmt.Sprintf("boot-%d.txt", d.m.boots)), said, 0o644); err != nil {
			fmt.Fprintln(&d.m.log, err)
		}
		d.Guest = nil
	}
	if d.conn != nil {
		d.conn.Close()
	}
	if d.sim != nil && d.sim.Process != nil {
		d.sim.Process.Kill()
		d.sim.Wait()
		d.sim = nil
	}
	if d.chip != nil {
		d.chip.Stop()
		d.chip = nil
	}
	if d.m.dom0 == d {
		d.m.dom0 = nil
	}
}

// Close cuts the power of a machine that still runs.
func (m *Machine) Close() {
	if m.dom0 != nil {
		m.dom0.cut()
	}
}

var errNotAsItShould = errors.New("not as it should be")

// Log is all that boots which are over printed.
func (m *Machine) Log() []byte { return m.log.Bytes() }
