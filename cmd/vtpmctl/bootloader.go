package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/vtpm/xl"
)

func bootloaderCommand(c *control) *cobra.Command {
	var want xl.Loading
	var output, format, directory, runAs string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "bootloader CONFIGURATION DISK",
		Short: "Be the boot loader that plain xl create runs, so that it starts what was measured",
		Long: `bootloader is what libxl runs where a guest's configuration says so:

  bootloader="/usr/lib/vtpmd/vtpm-bootloader"
  bootloader_args=["/etc/xen/GUEST.cfg"]
  kernel="/boot/vmlinuz-guest"
  ramdisk="/boot/initrd-guest"

It has vtpmd measure what the configuration names, and gives libxl the sealed files. So xl create, and each
reboot of the guest, do what vtpmctl run does, and measure kernel and initrd anew. kernel= and ramdisk= are
files of this system, not of the guest's disk; libxl wants one disk in the configuration, though nothing is read
from it.

What libxl tells of kernel, initrd and command line must be what stands in the configuration: settings on xl's
own command line are not measured, so a guest with other ones does not start.`,
		Args: arguments("CONFIGURATION", "DISK"),
		RunE: asking(func(ctx context.Context, args []string) error {
			if format != "simple0" {
				return cli.Usage("libxl asks for the format simple0, and not for %q", format)
			}
			if output == "" {
				return cli.Usage("--output is missing; libxl runs this command")
			}
			want.Configuration = args[0]
			got, err := c.client.Boot(ctx, want)
			if err != nil {
				return fmt.Errorf("the guest does not start: %w", err)
			}
			// libxl has made the file, and takes it as soon as this program ends well.
			if err := os.WriteFile(output, got.Simple0(), 0o600); err != nil {
				return fmt.Errorf("tell libxl what to start: %w", err)
			}
			return nil
		}),
	}
	f := cmd.Flags()
	f.StringVar(&want.Kernel, "kernel", "", "libxl's: the kernel of the configuration")
	f.StringVar(&want.Ramdisk, "ramdisk", "", "libxl's: the initrd of the configuration")
	f.StringVar(&want.CommandLine, "args", "", "libxl's: the kernel's command line")
	f.StringVar(&output, "output", "", "libxl's: the file for the answer")
	f.StringVar(&format, "output-format", "simple0", "libxl's: the form of the answer")
	f.StringVar(&directory, "output-directory", "", "libxl's: a folder that is not used here")
	f.StringVar(&runAs, "runas", "", "libxl's: not used here, because only root may ask vtpmd")
	f.BoolVar(&quiet, "quiet", false, "libxl's: not used here, because nothing is said but errors")
	return cmd
}
