package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/internal/initramfs"
	"github.com/antievilmaid/aem/internal/stage1"
	"github.com/antievilmaid/aem/internal/stage1/config"
	"github.com/antievilmaid/aem/internal/stage1/image"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// bootRuns is how often a guest is booted in each way.
const bootRuns = 3

// usualInitrd is about what a distribution's initramfs has, in bytes.
const usualInitrd = 48 << 20

// chains measures stage 1 in guests.
func chains(dir string) error {
	r, err := newRack(dir)
	if err != nil {
		return err
	}
	const line = "console=ttyS0 panic=-1 quiet no_timer_check"
	linux := launch.Description{Kernel: launch.File{Path: "/target/vmlinuz", Line: line}, Initrd: &launch.File{Path: "/target/initrd"}}
	xen := launch.Description{
		Hypervisor: &launch.File{Path: "/target/xen.gz", Line: "console=com1 dom0_mem=512M no-real-mode edd=off"},
		Kernel:     linux.Kernel, Initrd: linux.Initrd,
	}
	product, bare, err := r.stageOne(linux)
	if err != nil {
		return err
	}
	fmt.Printf("| size of stage 1's initramfs, compressed, without kernel modules | %.2f MB |\n", float64(bare)/1e6)

	clocked, err := r.timedStage(linux)
	if err != nil {
		return err
	}
	const up = `GUEST exit 0 cat /proc/uptime`
	var direct, chained, added []float64
	var stages []*timedRun
	for range bootRuns {
		alone, _, err := r.boot(r.file("initrd"), line, up)
		if err != nil {
			return err
		}
		both, _, err := r.boot(product, line, up)
		if err != nil {
			return err
		}
		direct, chained, added = append(direct, alone), append(chained, both), append(added, both-alone)
		s, err := r.timed(clocked, line)
		if err != nil {
			return err
		}
		stages = append(stages, s)
	}
	fmt.Printf("| a Linux that is launched directly, up to its first process's first line | %s s |\n", spread(direct))
	fmt.Printf("| the same Linux through stage 1 | %s s |\n", spread(chained))
	fmt.Printf("| what stage 1 adds | %s s |\n", spread(added))
	// The fastest run is the one that others on the machine disturbed least.
	fastest := slices.MinFunc(stages, func(a, b *timedRun) int { return int(a.sum() - b.sum()) })
	for _, p := range fastest.parts {
		fmt.Printf("| of that: %s | %.3f s |\n", p.name, p.took.Seconds())
	}
	fmt.Printf("| stage 1 from its first line to kexec; hashing's share | %.2f s; %.0f %% |\n", fastest.sum().Seconds(), 100*fastest.share(hashingPart))
	rest := slices.Min(added) - fastest.parts[0].took.Seconds() - fastest.sum().Seconds()
	fmt.Printf("| the rest of what it adds: a second kernel to unpack, and kexec's own check of what it loads | %.1f s |\n", rest)
	if err := r.tellMemory("Linux", &linux, fastest); err != nil {
		return err
	}

	if clocked, err = r.timedStage(xen); err != nil {
		return err
	}
	s, err := r.timed(clocked, line)
	if err != nil {
		return err
	}
	return r.tellMemory("Xen and dom0", &xen, s)
}

// rack is what guests with a stage 1 are made of.
type rack struct {
	dir     string
	kernel  testbed.Kernel
	modules *initramfs.Modules
}

func (r *rack) file(name string) string { return filepath.Join(r.dir, name) }

// newRack makes the disk with what stage 1 starts.
func newRack(dir string) (*rack, error) {
	kernel, err := testbed.FindKernel()
	if err != nil {
		return nil, err
	}
	modules, err := initramfs.ReadModules(kernel.Modules)
	if err != nil {
		return nil, err
	}
	r := &rack{filepath.Join(dir, "chain"), kernel, modules}
	if err := os.MkdirAll(r.file("root/target"), 0o700); err != nil {
		return nil, err
	}
	im := &testbed.Image{Steps: []testbed.Step{testbed.Cat("/proc/uptime")}}
	ballast := make([]byte, usualInitrd)
	rand.NewChaCha8([32]byte{}).Read(ballast)
	im.File("ballast", 0o600, ballast)
	initrd, err := im.Build(kernel)
	if err != nil {
		return nil, err
	}
	xen, err := testbed.FindXen()
	if err != nil {
		return nil, err
	}
	for to, from := range map[string]string{"root/target/vmlinuz": kernel.Image, "root/target/xen.gz": xen} {
		b, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		if err := os.WriteFile(r.file(to), b, 0o600); err != nil {
			return nil, err
		}
	}
	for _, to := range []string{"root/target/initrd", "initrd"} {
		if err := os.WriteFile(r.file(to), initrd, 0o600); err != nil {
			return nil, err
		}
	}
	if err := testbed.Ext4Image(r.file("disk"), 128, r.file("root/target")); err != nil {
		return nil, err
	}
	b, err := testbed.Program("./cmd/drtmsim")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(r.file("drtmsim"), b, 0o700); err != nil {
		return nil, err
	}
	_, err = timed(exec.Command(r.file("drtmsim"), "loader", "--platform", "txt", r.file("loader")))
	return r, err
}

// stageOne writes what aem-setup stage1 build makes, and says what of it is not modules.
func (r *rack) stageOne(d launch.Description) (path string, bare int, err error) {
	program, err := testbed.Program("./cmd/aem")
	if err != nil {
		return "", 0, err
	}
	description, err := json.Marshal(d)
	if err != nil {
		return "", 0, err
	}
	im, err := image.Build(image.Options{
		Config:  config.Config{Mounts: []config.Mount{{Disk: "/dev/vda", Folder: "/target"}}},
		Program: program, Description: description, Modules: r.modules, Load: testbed.DiskModules(),
	})
	if err != nil {
		return "", 0, err
	}
	return r.file("stage1.img"), im.Bare, os.WriteFile(r.file("stage1.img"), im.Bytes, 0o600)
}

// timedStage writes the same with a first process that times itself.
func (r *rack) timedStage(d launch.Description) (path string, err error) {
	program, err := testbed.Program("./internal/figures/timedstage")
	if err != nil {
		return "", err
	}
	description, err := json.Marshal(d)
	if err != nil {
		return "", err
	}
	var a initramfs.Archive
	a.File(config.Init, 0o755, program)
	a.File(config.DescriptionPath, 0o644, description)
	a.Modules(r.modules, testbed.DiskModules()...)
	b, err := a.Gzip()
	if err != nil {
		return "", err
	}
	return r.file("timed.img"), os.WriteFile(r.file("timed.img"), b, 0o600)
}

// boot launches the kernel with an initramfs, waits for a line on the serial port, and
// returns the time from QEMU's start to it, in seconds, and what the pattern caught.
func (r *rack) boot(initrd, line, until string) (seconds float64, caught []string, err error) {
	dir, err := os.MkdirTemp("", "aem-fig-")
	if err != nil {
		return 0, nil, err
	}
	defer os.RemoveAll(dir)
	emulator, err := testbed.StartEmulator(filepath.Join(dir, "tpm"), tpm.V20)
	if err != nil {
		return 0, nil, err
	}
	defer emulator.Stop()
	c := testbed.Config{
		Kernel: r.kernel.Image, Initrd: initrd, Append: line, Memory: 1536, TPM: filepath.Join(dir, "sim"), HandOver: filepath.Join(dir, "handover"),
		Drives: []testbed.Drive{{Path: r.file("disk"), ReadOnly: true}},
	}
	sim := exec.Command(r.file("drtmsim"), "--platform", "txt", "--loader", r.file("loader"), "--target", "linux", "--kernel", c.Kernel,
		"--append", line, "--initrd", initrd, "--listen", c.TPM, "--swtpm", emulator.Socket(), "--handover", c.HandOver)
	var said bytes.Buffer
	sim.Stderr = &said
	if err := sim.Start(); err != nil {
		return 0, nil, err
	}
	defer func() {
		sim.Process.Kill()
		sim.Wait()
	}()
	for start := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(c.TPM); err == nil {
			break
		}
		if time.Since(start) > 20*time.Second {
			return 0, nil, errors.New("drtmsim does not listen")
		}
	}
	start := time.Now()
	g, err := testbed.StartGuest(c)
	if err != nil {
		return 0, nil, err
	}
	defer g.Kill()
	caught, err = g.Expect(context.Background(), until)
	return time.Since(start).Seconds(), caught, err
}

// timedRun is what a stage 1 with a clock said.
type timedRun struct {
	parts []timedPart
	gone  float64 // of the machine's memory, with the kernel's copies, in MB
}

type timedPart struct {
	name string
	took time.Duration
	peak float64 // MB
}

// sum is the time of all parts but the first, which is the small Linux's own start.
func (t *timedRun) sum() (d time.Duration) {
	for _, p := range t.parts[1:] {
		d += p.took
	}
	return d
}

// hashingPart is what the stage 1 with a clock calls hashing.
const hashingPart = "hashing them in every bank"

// share is how much of the time one part took.
func (t *timedRun) share(name string) float64 {
	for _, p := range t.parts {
		if p.name == name {
			return float64(p.took) / float64(t.sum())
		}
	}
	return 0
}

func (r *rack) timed(initrd, line string) (*timedRun, error) {
	_, caught, err := r.boot(initrd, line, `(?s)STAGE parts\s+(.*)STAGE executes (\d+)`)
	if err != nil {
		return nil, err
	}
	var t timedRun
	for line := range strings.Lines(caught[1]) {
		var p timedPart
		var micro, kb int64
		if n, err := fmt.Sscanf(strings.TrimSpace(line), "%q %d %d", &p.name, &micro, &kb); n != 3 {
			return nil, fmt.Errorf("a line of the stage 1 with a clock is not understood: %q: %w", line, err)
		}
		p.took, p.peak = time.Duration(micro)*time.Microsecond, float64(kb)*1024/1e6
		t.parts = append(t.parts, p)
	}
	kb, err := strconv.Atoi(caught[2])
	if err != nil || len(t.parts) < 2 {
		return nil, fmt.Errorf("the stage 1 with a clock said too little: %q", caught[0])
	}
	t.gone = float64(kb) * 1024 / 1e6
	return &t, nil
}

// tellMemory sets the memory of a stage 1 beside what it started.
func (r *rack) tellMemory(name string, d *launch.Description, t *timedRun) error {
	s, err := stage1.Read(d, stage1.Below(r.file("root")))
	if err != nil {
		return err
	}
	sum := float64(handedOver(s)) / 1e6
	fmt.Printf("| what is handed to the kernel for %s | %.1f MB |\n", name, sum)
	peak := 0.0
	for _, p := range t.parts {
		if p.peak > peak+1 {
			fmt.Printf("| peak memory of stage 1 after %s | %.1f MB |\n", p.name, p.peak)
		}
		peak = max(peak, p.peak)
	}
	fmt.Printf("| beside what is handed over | %.2f |\n", peak/sum)
	fmt.Printf("| what the machine's free memory fell by, with the kernel's copies | %.1f MB |\n", t.gone)
	return nil
}

// handedOver is how many bytes a stage has.
func handedOver(s *drtm.Stage) int {
	n := len(s.Image) + len(s.Initrd)
	for _, m := range s.Modules {
		n += len(m.Content)
	}
	return n
}
