package debian

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// Config is how a machine is started.
type Config struct {
	Firmware Firmware

	// TPM is the family of the machine's TPM; zero: it has none. TPMDir holds its
	// state between starts; an empty or missing folder makes a new TPM 2.0.
	// A TPM 1.2 is prepared by [testbed.MakeEK12].
	TPM    tpm.Version
	TPMDir string
	// Launch, where it isn't nil, makes a dynamic launch of what GRUB will boot. It
	// needs a TPM.
	Launch *Launch
	// Next, where it isn't nil, is launched in place of what GRUB will boot: a
	// machine on which they differ tells a lie in its log.
	Next *Next
	// Direct lets QEMU start Next's kernel, so that neither the boot sector nor GRUB
	// runs. It needs Next or Launch.
	Direct bool

	Drives []testbed.Drive // besides the system's disk, such as a stick
	Memory int             // MiB; 1024 where it is 0
	Extra  []string        // goes to QEMU's command line as it is
	Resets bool            // a reset, such as reboot's, starts the machine again
}

// Machine is a running Debian. Its person reads and types on the serial line.
type Machine struct {
	*testbed.Guest
	// Next is what was launched or started directly, or nil.
	Next *Next

	variant  Variant
	dir      string // sockets, the shared folder; removed at the end
	emulator *testbed.Emulator
	sim      *simulator
	commands int  // how many Start has typed
	mounted  bool // the shared folder, in the guest
	greeted  bool // the login prompt has been seen already
}

// Boot switches the machine on. Its owner calls Kill at the end, also after it has
// been powered off.
func (d *Disk) Boot(c Config) (*Machine, error) {
	dir, err := os.MkdirTemp("", "aem-deb-") // short: a socket's path has at most 107 bytes
	if err != nil {
		return nil, err
	}
	m := &Machine{variant: d.Variant, dir: dir}
	if err := m.start(d, c); err != nil {
		m.Kill()
		return nil, fmt.Errorf("start Debian: %w", err)
	}
	return m, nil
}

func (m *Machine) start(d *Disk, c Config) error {
	if c.Launch != nil && c.TPM == 0 {
		return errors.New("a dynamic launch needs a TPM")
	}
	if c.Direct && c.Launch == nil && c.Next == nil {
		return errors.New("what QEMU is to start is not said")
	}
	g := testbed.Config{
		Memory: c.Memory, CPUs: 2, Resets: c.Resets,
		Drives: append([]testbed.Drive{{Path: d.Path, Format: "qcow2"}}, c.Drives...),
	}
	if g.Memory == 0 {
		g.Memory = 1024
	}
	if err := m.firmware(d, c.Firmware, &g); err != nil {
		return err
	}
	if err := m.share(&g); err != nil {
		return err
	}
	g.Extra = append(append(g.Extra, "-device", "virtio-rng-pci"), c.Extra...)
	if m.Next = c.Next; m.Next == nil && c.Launch != nil {
		var err error
		if m.Next, err = d.NextBoot(c.Firmware, m.dir); err != nil {
			return err
		}
	}
	if c.Direct {
		g.Kernel, g.Initrd, g.Append = m.Next.Kernel, m.Next.Initrd, m.Next.Line
	}
	if c.TPM != 0 {
		if err := m.startTPM(c, &g); err != nil {
			return err
		}
	}
	var err error
	m.Guest, err = testbed.StartGuest(g)
	return err
}

func (m *Machine) startTPM(c Config, g *testbed.Config) error {
	var err error
	if m.emulator, err = testbed.StartEmulator(c.TPMDir, c.TPM); err != nil {
		return err
	}
	g.TPM = m.emulator.Socket()
	if c.Launch == nil {
		return nil
	}
	if m.sim, err = startSimulator(m.dir, m.emulator.Socket(), c.Launch, m.Next); err != nil {
		return err
	}
	g.TPM, g.HandOver = m.sim.listen, m.sim.shared
	return nil
}

// The files of Debian's package ovmf.
const ovmfCode, ovmfVars = "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"

func (m *Machine) firmware(d *Disk, f Firmware, g *testbed.Config) error {
	if f == BIOS {
		return nil
	}
	if _, err := os.Stat(d.Vars); errors.Is(err, os.ErrNotExist) {
		if err := copyFile(ovmfVars, d.Vars); err != nil {
			return fmt.Errorf("make a copy of OVMF's variables: %w", err)
		}
	}
	g.Extra = append(g.Extra,
		"-drive", "if=pflash,format=raw,readonly=on,file="+ovmfCode,
		"-drive", "if=pflash,format=raw,file="+comma(d.Vars))
	return nil
}

// Simulator is what drtmsim said, or nothing where there is no dynamic launch.
func (m *Machine) Simulator() string {
	if m.sim == nil {
		return ""
	}
	return m.sim.messages()
}

// PowerOff has the system shut down from its shell, and waits until the machine is off.
func (m *Machine) PowerOff(ctx context.Context) error {
	if err := m.Type("systemctl poweroff\r"); err != nil {
		return err
	}
	return m.Wait(ctx)
}

// Kill cuts the power, as a hand at the switch does, and removes what this side of
// the machine had. The disk and the TPM's state stay. It may be called more than once.
func (m *Machine) Kill() {
	if m.Guest != nil {
		m.Guest.Kill()
	}
	if m.sim != nil {
		m.sim.stop()
	}
	if m.emulator != nil {
		m.emulator.Stop()
	}
	os.RemoveAll(m.dir)
}
