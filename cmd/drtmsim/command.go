package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/handover"
)

// newCommand is the whole command line.
func newCommand() *cobra.Command {
	var (
		c        config
		platform = platformFlag(drtm.TXT)
		kind     = kindFlag(drtm.Linux)
		size     = sizeFlag(handover.DefaultSize)
	)
	cmd := &cobra.Command{
		Use:   "drtmsim --listen SOCKET --swtpm SOCKET --kernel FILE [flags]",
		Short: "Give an emulated machine a dynamic launch",
		Long: `drtmsim stands between QEMU and the TPM emulator swtpm. When the guest's
firmware has started the TPM, it performs a dynamic launch of the kernel,
initramfs and command line that QEMU was given: the CPU's hash sequence at
locality 4, then the measurements that Intel's SINIT or AMD's loader and Linux
make. After each reset of the guest it launches anew. With --target it launches Xen or
tboot, by the measurements that these make.

QEMU's TPM is connected to drtmsim in place of swtpm:

  -chardev socket,id=tpm,path=LISTEN -tpmdev emulator,id=t,chardev=tpm
  -device tpm-tis,tpmdev=t

and the guest finds the launch's event log in a device:

  -object memory-backend-file,id=drtm,mem-path=HANDOVER,share=on,size=64K
  -device ivshmem-plain,memdev=drtm`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c.platform, c.kind, c.size = drtm.Platform(platform), drtm.Kind(kind), int64(size)
			c.initrdGiven = cmd.Flags().Changed("initrd")
			if err := c.check(); err != nil {
				return err
			}
			return run(cmd.Context(), c, cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.listen, "listen", "", "the socket to make, for QEMU's TPM")
	f.StringVar(&c.swtpm, "swtpm", "", "swtpm's control socket")
	f.StringVar(&c.loader, "loader", "", "the loader that the CPU hashes: a Secure Loader Block or a SINIT module (default: a built-in one)")
	f.StringVar(&c.kernel, "kernel", "", "the bzImage that QEMU was given")
	f.StringVar(&c.initrd, "initrd", "", "the initramfs that QEMU was given")
	f.StringVar(&c.commandLine, "append", "", "the kernel command line that QEMU was given")
	f.Var(&kind, "target", "what is launched: linux, xen (by Multiboot 2), xen-efi or tboot")
	f.StringArrayVar(&c.modules, "module", nil, `a module of Xen or tboot, in order: "FILE COMMAND LINE"`)
	f.StringVar(&c.handover, "handover", "", "the file in which the guest finds the event log")
	f.Var(&size, "size", "the size of that file, a power of two, such as 64K")
	f.BoolVar(&c.noLaunch, "no-launch", false, "pass everything through and launch nothing")
	f.BoolVar(&c.once, "once", true, "end when QEMU disconnects; --once=false waits for the next one")
	// The loader's kind matters to both commands.
	cmd.PersistentFlags().Var(&platform, "platform", "the kind of launch: txt or skinit")
	cmd.AddCommand(newLoaderCommand(&platform))
	return cmd
}

// newLoaderCommand writes out what is launched where no loader is given.
func newLoaderCommand(platform *platformFlag) *cobra.Command {
	return &cobra.Command{
		Use:   "loader FILE",
		Short: "Write the built-in loader image into a file",
		Long: `Write the built-in loader image of a platform into a file: what the emulated
CPU hashes where --loader names no other. It is hashed, never executed; change
a byte of it to see another launch.`,
		Args:          cobra.ExactArgs(1),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			image := builtinLoader(drtm.Platform(*platform))
			if err := os.WriteFile(args[0], image, 0o644); err != nil {
				return fmt.Errorf("write the loader image: %w", err)
			}
			return nil
		},
	}
}

// config is what the command line says.
type config struct {
	listen, swtpm          string
	platform               drtm.Platform
	loader, kernel, initrd string
	initrdGiven            bool
	kind                   drtm.Kind
	modules                []string
	commandLine            string
	handover               string
	size                   int64
	noLaunch, once         bool
}

func (c config) check() error {
	switch {
	case c.listen == "":
		return errors.New("--listen is missing: name the socket to which QEMU's TPM will connect")
	case c.swtpm == "":
		return errors.New("--swtpm is missing: name the control socket of a running swtpm")
	case c.kernel == "" && !c.noLaunch:
		return errors.New("--kernel is missing: name the kernel that QEMU starts, or say --no-launch")
	case c.kind == drtm.Linux && len(c.modules) > 0:
		return errors.New("--module is for Xen and tboot; Linux has an --initrd")
	case c.kind != drtm.Linux && c.initrdGiven:
		return errors.New("--initrd is for Linux; give Xen and tboot their files with --module")
	}
	return handover.CheckSize(c.size)
}

// kindFlag is a kind of target on the command line.
type kindFlag drtm.Kind

func (k *kindFlag) String() string { return drtm.Kind(*k).String() }
func (k *kindFlag) Type() string   { return "linux|xen|xen-efi|tboot" }
func (k *kindFlag) Set(s string) error {
	v, err := drtm.ParseKind(s)
	*k = kindFlag(v)
	return err
}

// platformFlag is a platform on the command line.
type platformFlag drtm.Platform

func (p *platformFlag) String() string { return drtm.Platform(*p).Name() }
func (p *platformFlag) Type() string   { return "txt|skinit" }
func (p *platformFlag) Set(s string) error {
	v, err := drtm.ParsePlatform(s)
	*p = platformFlag(v)
	return err
}

// sizeFlag is a number of bytes, with K or M for QEMU's units.
type sizeFlag int64

func (n *sizeFlag) String() string {
	if *n >= 1<<10 && *n%(1<<10) == 0 {
		return strconv.FormatInt(int64(*n)>>10, 10) + "K"
	}
	return strconv.FormatInt(int64(*n), 10)
}
func (n *sizeFlag) Type() string { return "bytes" }
func (n *sizeFlag) Set(s string) error {
	digits, shift := s, 0
	switch {
	case strings.HasSuffix(s, "K"):
		digits, shift = s[:len(s)-1], 10
	case strings.HasSuffix(s, "M"):
		digits, shift = s[:len(s)-1], 20
	}
	v, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || v < 0 || v > math.MaxInt64>>shift {
		return fmt.Errorf("%q is no size; write a number of bytes, or one with K or M", s)
	}
	*n = sizeFlag(v << shift)
	return handover.CheckSize(int64(*n))
}
