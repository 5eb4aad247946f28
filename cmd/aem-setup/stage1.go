package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/durable"
	"github.com/antievilmaid/aem/internal/initramfs"
	"github.com/antievilmaid/aem/internal/stage1"
	"github.com/antievilmaid/aem/internal/stage1/config"
	"github.com/antievilmaid/aem/internal/stage1/image"
)

func stage1Command(s *setup) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stage1",
		Short: "Make the small Linux that a firmware launches, and that starts the real system",
		Long: `Some firmware launches a small Linux, and not the real system. What runs in that Linux is
stage 1: it loads the real system's hypervisor, kernel, initramfs and command lines,
measures them, and starts them (aem launch).`,
	}
	cmd.AddCommand(stage1Build(s))
	return cmd
}

// stage1Options are the flags of aem-setup stage1 build.
type stage1Options struct {
	describe, entry, out, program, modules string
	uki, stub, kernel, line                string
	mounts, load                           []string
	policy, policyKey                      string
	oldest                                 uint64
	anyway, dryRun                         bool
	policed                                bool // one of the flags about a policy was given
}

func stage1Build(s *setup) *cobra.Command {
	o := &stage1Options{}
	cmd := &cobra.Command{
		Use:   "build",
		Short: "Make the initramfs of stage 1",
		Long: `build makes the initramfs for the Linux that is launched. In it are the program aem, as the
first process; what it is to start; the kernel modules that it needs to reach that, in
their order; and nothing else. There is no shell. The same things give the same bytes.

What to start is a file in JSON (--describe; the launch's measurement of the initramfs
then covers it, and an update of the real system needs a new stage 1), or an entry of
GRUB's menu on the boot partition (--entry; stage 1 stays as it is, and what the menu says
is measured when it is started). The files lie on disks that are mounted read-only:

  aem-setup stage1 build --entry default --mount UUID=1b2c3d4e-...:/boot \
    --module nvme --module ext4 --out /boot/stage1.img

The modules are those of the kernel that will be launched, which may be another than the
one that runs: --modules names their folder. What is built into it needs no module. If stage 1
can't start the system it says why, closes the PCRs, and waits for the word off or restart.

--uki makes a unified kernel image as well: one file for UEFI, with the launched kernel, its
command line and this initramfs in systemd's stub (package systemd-boot-efi). It is for
machines that start such files, and not signed.

With --policy-key stage 1 starts only what a policy approves of that this key has signed
(aem launch). The key and --policy-oldest are in the initramfs, so the launch measures
them. --policy is where stage 1 finds the policy: on one of the disks, as it mounts them.
It may be exchanged without a new stage 1.

--dry-run lists what would be in it. What the chain measures is computed before it boots, by
aem-setup approve, aem-setup seal --entry and aem predict.`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, name := range []string{"policy", "policy-key", "policy-oldest", "launch-unapproved"} {
				o.policed = o.policed || cmd.Flags().Changed(name)
			}
			return o.run(s)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.describe, "describe", "", "a file that describes what to start, for aem launch")
	f.StringVar(&o.entry, "entry", "", "GRUB's menu entry to start: a title, an identifier, a number, or default")
	f.StringArrayVar(&o.mounts, "mount", nil, "DISK:FOLDER, mounted read-only; a disk is a device, or UUID= and the UUID of its file system")
	f.StringArrayVar(&o.load, "module", nil, "a kernel module to load, by name; what it needs comes with it")
	f.StringVar(&o.modules, "modules", "", "the folder with the launched kernel's modules (default: those of the running kernel)")
	f.StringVar(&o.program, "aem", "", "the program aem (default: the one beside this program, or in PATH)")
	f.StringVar(&o.out, "out", "", "the file to write")
	f.StringVar(&o.uki, "uki", "", "a unified kernel image to write, for UEFI")
	f.StringVar(&o.stub, "stub", "", "the stub for it (default: "+defaultStub+")")
	f.StringVar(&o.kernel, "kernel", "", "the kernel that will be launched, for it")
	f.StringVar(&o.line, "append", "", "that kernel's command line, for it")
	f.StringVar(&o.policyKey, "policy-key", "", "file with the public key whose policy has to approve of what is launched")
	f.StringVar(&o.policy, "policy", "", "the policy, as a path in stage 1, on one of its disks")
	f.Uint64Var(&o.oldest, "policy-oldest", 1, "the lowest version of a policy that is taken")
	f.BoolVar(&o.anyway, "launch-unapproved", false, "launch also what no policy approves of, and measure that")
	dryRunFlag(cmd, &o.dryRun)
	return cmd
}

// defaultStub is where systemd's stub lies, below the root.
const defaultStub = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"

// stage1Report is what --json prints.
type stage1Report struct {
	Out    string       `json:"out,omitempty"`
	UKI    string       `json:"uki,omitempty"`
	Size   int          `json:"size"`
	Bare   int          `json:"size_without_modules"`
	SHA256 aem.HexBytes `json:"sha256"`
	Files  []image.File `json:"files"`
}

func (o *stage1Options) run(s *setup) error {
	if (o.describe == "") == (o.entry == "") {
		return cli.Usage("say what to start: give --describe or --entry")
	}
	switch {
	case o.out == "" && o.uki == "" && !o.dryRun:
		return cli.Usage("say where to write it: give --out or --uki")
	case o.uki != "" && o.kernel == "":
		return cli.Usage("--uki needs the kernel that will be launched: give --kernel")
	case o.uki == "" && (o.kernel != "" || o.line != "" || o.stub != ""):
		return cli.Usage("--kernel, --append and --stub are for --uki")
	case o.policed && (o.policy == "" || o.policyKey == ""):
		// An empty value, as of a script's unset variable, is not taken for no policy.
		return cli.Usage("a policy has a file and a key: give --policy and --policy-key")
	}
	options, err := o.read(s.root)
	if err != nil {
		return err
	}
	im, err := image.Build(*options)
	if errors.Is(err, config.ErrConfig) {
		return cli.UsageError{Err: err}
	}
	if err != nil {
		return fmt.Errorf("make the initramfs of stage 1: %w", err)
	}
	if notice := realModeNotice(options.Description); notice != "" {
		fmt.Fprintln(os.Stderr, notice)
	}
	sum := sha256.Sum256(im.Bytes)
	r := stage1Report{o.out, o.uki, len(im.Bytes), im.Bare, sum[:], im.Files}
	unified, err := o.unify(s.root, im.Bytes)
	if err != nil {
		return err
	}
	if o.dryRun {
		return s.would(r, "write %s", r.text())
	}
	if o.out != "" {
		if err := durable.Write(o.out, im.Bytes, nil); err != nil {
			return fmt.Errorf("write the initramfs of stage 1: %w", err)
		}
	}
	if o.uki != "" {
		if err := durable.Write(o.uki, unified, nil); err != nil {
			return fmt.Errorf("write the unified kernel image: %w", err)
		}
	}
	return s.report(r, "Wrote "+r.text()+"The launch measures it: what is sealed opens with this one alone.")
}

func (r *stage1Report) text() string {
	var b bytes.Buffer
	name := cmp.Or(r.Out, "an initramfs")
	if r.UKI != "" {
		name += " (and " + r.UKI + " with it)"
	}
	fmt.Fprintf(&b, "%s, %.1f MB, of which %.1f MB are not kernel modules. In it, unpacked:\n", name, float64(r.Size)/1e6, float64(r.Bare)/1e6)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, f := range r.Files {
		fmt.Fprintf(w, "  %d\t%s\n", f.Size, f.Path)
	}
	w.Flush()
	fmt.Fprintf(&b, "SHA-256 %x. ", []byte(r.SHA256))
	return b.String()
}

// realModeNotice warns of a Xen that would ask the BIOS for what Linux has taken from it.
func realModeNotice(description []byte) string {
	d, err := launch.ParseDescription(description)
	if err != nil || d.Hypervisor == nil || slices.Contains(strings.Fields(d.Hypervisor.Line), "no-real-mode") {
		return "" // an entry of the menu is read when it is started
	}
	return "Xen's command line has no no-real-mode: behind a Linux that has used a disk, Xen may hang before it prints\nanything. Add: no-real-mode edd=off"
}

// unify makes the unified kernel image where one is wanted.
func (o *stage1Options) unify(root string, initrd []byte) ([]byte, error) {
	if o.uki == "" {
		return nil, nil
	}
	stub, err := os.ReadFile(cmp.Or(o.stub, filepath.Join(root, defaultStub)))
	if err != nil {
		return nil, fmt.Errorf("read the stub for UEFI (the package systemd-boot-efi has one): %w", err)
	}
	kernel, err := os.ReadFile(o.kernel)
	if err != nil {
		return nil, fmt.Errorf("read the kernel that will be launched: %w", err)
	}
	b, err := image.Unify(stub, kernel, initrd, o.line)
	if err != nil {
		return nil, fmt.Errorf("make the unified kernel image: %w", err)
	}
	return b, nil
}

// read reads what goes into the initramfs.
func (o *stage1Options) read(root string) (*image.Options, error) {
	options := &image.Options{Config: config.Config{Entry: o.entry}, Load: o.load}
	for _, m := range o.mounts {
		mount, err := config.ParseMount(m)
		if err != nil {
			return nil, cli.UsageError{Err: err}
		}
		options.Mounts = append(options.Mounts, mount)
	}
	if o.policed {
		key, err := stage1.ReadBounded(o.policyKey, launch.MaxPolicy)
		if err != nil {
			return nil, fmt.Errorf("read the key of the launch policy: %w", err)
		}
		options.PolicyKey = key
		options.Policy = &config.Policy{File: o.policy, Oldest: o.oldest, LaunchUnapproved: o.anyway}
	}
	program, err := o.findProgram()
	if err != nil {
		return nil, err
	}
	if options.Program, err = os.ReadFile(program); err != nil {
		return nil, fmt.Errorf("read the program for stage 1: %w", err)
	}
	if o.describe != "" {
		if options.Description, err = os.ReadFile(o.describe); err != nil {
			return nil, fmt.Errorf("read the launch description: %w", err)
		}
	}
	if len(o.load) == 0 {
		return options, nil
	}
	folder := o.modules
	if folder == "" {
		var name unix.Utsname
		if err := unix.Uname(&name); err != nil {
			return nil, fmt.Errorf("ask which kernel runs: %w", err)
		}
		folder = filepath.Join(root, "lib/modules", unix.ByteSliceToString(name.Release[:]))
	}
	options.Modules, err = initramfs.ReadModules(folder)
	return options, err
}

// findProgram finds aem: one built together with this program is the right one.
func (o *stage1Options) findProgram() (string, error) {
	if o.program != "" {
		return o.program, nil
	}
	if own, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(own), "aem")
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	path, err := exec.LookPath("aem")
	if err != nil {
		return "", fmt.Errorf("the program aem is not here; name it with --aem: %w", err)
	}
	return path, nil
}
