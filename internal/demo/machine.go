package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// sentence is what the owner entrusts. It is typed on the guest's keyboard, and a
// test looks for it in everything that the story printed and wrote.
const sentence = "the lighthouse keeper sleeps on Tuesdays"

// machine is the owner's laptop: a TPM, a boot partition that is also the medium,
// a system's disk, and what it boots.
type machine struct {
	version  tpm.Version
	platform string
	dir      string // TPM state, disks, logs
	shots    string // screenshots
	drtmsim  string // the program

	kernel testbed.Kernel
	story  []chapter
	good   parts
	guest  testbed.Config // what the story's guests have beside the disks and the TPM
	logs   bytes.Buffer   // all that drtmsim and the guests' serial lines said
}

// parts are what a boot consists of, besides the kernel.
type parts struct {
	initrd, loader, cmdline string
	start                   string // the disk with what stage 1 starts; empty without a stage 1
	launch                  bool
}

// Where the emulator gets little of the CPU, Linux finds the timer at fault; it is told not to look.
const cmdline = "guest.console=tty1 console=ttyS0 panic=-1 quiet no_timer_check"

// tale is a story with the laptop that it needs.
type tale struct {
	story []chapter
	build func(*machine) error
}

// newMachine builds a tale's laptop below dir.
func newMachine(t tale, v tpm.Version, dir, shots string) (*machine, error) {
	m := &machine{version: v, dir: dir, shots: shots, story: t.story, platform: "skinit", drtmsim: filepath.Join(dir, "drtmsim")}
	if v == tpm.V12 {
		m.platform = "txt"
	}
	for _, d := range []string{dir, shots, filepath.Join(dir, "tpm")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	var err error
	if m.kernel, err = testbed.FindKernel(); err != nil {
		return nil, err
	}
	program, err := testbed.Program("./cmd/drtmsim")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(m.drtmsim, program, 0o755); err != nil {
		return nil, err
	}
	m.good = parts{
		initrd: filepath.Join(dir, "initrd.img"), loader: filepath.Join(dir, "loader"), cmdline: cmdline, launch: true,
	}
	if err := t.build(m); err != nil {
		return nil, err
	}
	if out, err := exec.Command(m.drtmsim, "loader", "--platform", m.platform, m.good.loader).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("write the loader's image: %w: %s", err, out)
	}
	if err := m.writeDisks(); err != nil {
		return nil, err
	}
	if v == tpm.V12 {
		err = testbed.MakeEK12(filepath.Join(dir, "tpm"))
	}
	return m, err
}

// buildAlone makes the initramfs of a laptop whose launch starts its system.
func buildAlone(m *machine) error {
	b, err := m.systemInitrd("made by its owner\n")
	if err != nil {
		return err
	}
	return os.WriteFile(m.good.initrd, b, 0o644)
}

// systemInitrd makes the system's initramfs. It is measured, so it is the same at each
// boot: what differs from day to day stands on the system's disk.
func (m *machine) systemInitrd(note string) ([]byte, error) {
	im := &testbed.Image{Load: testbed.DiskModules(), Steps: []testbed.Step{
		testbed.RunOnTTY("/bin/aem", "unseal", "--medium", "/dev/vda", "--wait", "10s"),
		testbed.Mount("/dev/vda", "/boot"),
		testbed.Mount("/dev/vdb", "/system"),
	}}
	if m.good.start != "" { // what stage 1 will start is computed from its disk
		im.Steps = append(im.Steps, testbed.Step{Mount: []string{"/dev/vdc", "/start", "ext4", "ro"}})
	}
	im.Steps = append(im.Steps, testbed.RunOnTTY("/bin/system", "/system/first", "/system/later", "/system/aem/setup.json"))
	for name, pkg := range map[string]string{"bin/aem": "./cmd/aem", "bin/aem-setup": "./cmd/aem-setup", "bin/system": "./internal/demo/system"} {
		if err := im.Program(name, pkg); err != nil {
			return nil, err
		}
	}
	im.Dir("tmp", 0o700)
	im.File("etc/note", 0o644, []byte(note))
	b, err := im.Build(m.kernel)
	if err != nil {
		return nil, fmt.Errorf("build the initramfs: %w", err)
	}
	return b, nil
}

// firstDay is what the owner does in the running system after the first boot. Where the
// initramfs of the next is that of a stage 1, seal computes what that starts.
// The guest has no disk but the medium.
const firstDay = `/bin/aem-setup init --no-disks --home /system/aem --medium /boot
/bin/aem-setup secret set text --home /system/aem
/bin/aem-setup seal --home /system/aem --kernel /boot/vmlinuz --initrd /boot/initrd.img --label Monday
`

// laterDay is what the owner does there on all other days.
const laterDay = "/bin/aem-setup status --home /system/aem\n"

func (m *machine) writeDisks() error {
	boot := filepath.Join(m.dir, "boot")
	if err := os.MkdirAll(boot, 0o755); err != nil {
		return err
	}
	for from, to := range map[string]string{m.kernel.Image: "vmlinuz", m.good.initrd: "initrd.img"} {
		b, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(boot, to), b, 0o644)
		}
		if err != nil {
			return err
		}
	}
	if err := testbed.Ext4Image(m.medium(), 64, boot); err != nil {
		return err
	}
	dir := filepath.Join(m.dir, "system")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, todo := range map[string]string{"first": firstDay, "later": laterDay} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(todo), 0o644); err != nil {
			return err
		}
	}
	return testbed.Ext4Image(m.system(), 16, dir)
}

// medium and system are the disks' images.
func (m *machine) medium() string { return filepath.Join(m.dir, "medium.img") }
func (m *machine) system() string { return filepath.Join(m.dir, "system.img") }

// boot is a boot that goes on: the guest with its TPM and launch.
type boot struct {
	*testbed.Guest
	m        *machine
	emulator *testbed.Emulator
	sim      *exec.Cmd
	said     bytes.Buffer
}

// boot switches the laptop on.
func (m *machine) boot(ctx context.Context, p parts) (*boot, error) {
	emulator, err := testbed.StartEmulator(filepath.Join(m.dir, "tpm"), m.version)
	if err != nil {
		return nil, err
	}
	b := &boot{m: m, emulator: emulator}
	listen, handover := filepath.Join(m.dir, "sim"), filepath.Join(m.dir, "handover")
	os.Remove(listen)
	args := []string{"--listen", listen, "--swtpm", emulator.Socket(), "--handover", handover,
		"--platform", m.platform, "--loader", p.loader, "--kernel", m.kernel.Image, "--initrd", p.initrd, "--append", p.cmdline}
	if !p.launch {
		args = append(args, "--no-launch")
	}
	b.sim = exec.CommandContext(ctx, m.drtmsim, args...)
	b.sim.Stdout, b.sim.Stderr = &b.said, &b.said
	if err := b.sim.Start(); err != nil {
		emulator.Stop()
		return nil, fmt.Errorf("start drtmsim: %w", err)
	}
	if err := waitFor(ctx, listen, handover); err != nil {
		b.end()
		return nil, fmt.Errorf("%w; drtmsim said: %s", err, b.said.Bytes())
	}
	c := m.guest
	c.Kernel, c.Initrd, c.Append, c.TPM, c.HandOver = m.kernel.Image, p.initrd, p.cmdline, listen, handover
	c.Drives = []testbed.Drive{{Path: m.medium()}, {Path: m.system()}}
	if p.start != "" {
		c.Drives = append(c.Drives, testbed.Drive{Path: p.start, ReadOnly: true})
	}
	b.Guest, err = testbed.StartGuest(c)
	if err != nil {
		b.end()
		return nil, err
	}
	return b, nil
}

// waitFor waits for drtmsim's socket and file.
func waitFor(ctx context.Context, paths ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	pause := time.NewTicker(5 * time.Millisecond)
	defer pause.Stop()
	for _, path := range paths {
		for {
			if _, err := os.Stat(path); err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s does not appear: %w", filepath.Base(path), ctx.Err())
			case <-pause.C:
			}
		}
	}
	return nil
}

// end takes everything down and keeps what was said.
func (b *boot) end() {
	if b.Guest != nil {
		b.Kill()
		b.m.logs.Write(b.Transcript())
	}
	b.sim.Process.Kill()
	b.sim.Wait()
	b.emulator.Stop()
	b.m.logs.Write(b.said.Bytes())
}

// shot saves what the screen shows.
func (b *boot) shot(name string) error {
	picture, err := b.Screenshot()
	if err != nil {
		return err
	}
	return testbed.SavePNG(filepath.Join(b.m.shots, name+".png"), picture)
}
