package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/bootside"
	"github.com/antievilmaid/aem/internal/cli"
)

func bootCommand(s *setup) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "boot",
		Short: "Put the proof into the boot, or take it out",
		Long: `The proof is shown by a program in the initramfs, before anything asks for a passphrase.
These commands install it there and take it away; the initramfs is made anew by both, so
approve the next boot afterwards: aem-setup approve. With it come hooks that run
aem-setup approve --auto after apt, dpkg or kernel-install have changed packages.`,
	}
	cmd.AddCommand(bootInstall(s), bootRemove(s))
	return cmd
}

func bootInstall(s *setup) *cobra.Command {
	var plain, launch, dryRun bool
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Show the proof at each boot",
		Long: `install puts the proof into the initramfs. With --launch it also gives GRUB's menu entries
that start Linux or Xen by a dynamic launch: Intel TXT with the SINIT modules in /boot, or
AMD SKINIT with /boot/skl.bin. GRUB must be TrenchBoot's. The entries come last and the
default stays; GRUB_DEFAULT=aem-launch-linux in /etc/default/grub makes the launch of the
newest kernel the default. Where the machine, GRUB or the kernels can't make a launch there
is no entry, and update-grub says why. --dry-run prints the entries. Before aem-setup init,
--launch makes only the entries, so that the machine can be launched for the first time.`,
		Args: cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			setup, err := aem.OpenHome(s.home).Setup()
			if errors.Is(err, aem.ErrNotSetUp) && launch {
				return s.installLaunch(dryRun)
			}
			if err != nil {
				return err
			}
			media, err := setup.BootNames()
			if err != nil {
				return err
			}
			c := bootside.Config{Media: media, Disks: setup.Disks, Plain: plain, Launch: launch}
			if s.root == "/" {
				if c.Volumes, err = aem.LogicalVolumes(setup.Disks); err != nil {
					return err
				}
			}
			if dryRun && launch {
				return s.tryLaunch(c)
			}
			if dryRun {
				return s.report(c, fmt.Sprintf("Would install the hook with the media %s and %d disks. Nothing was changed.", strings.Join(c.Media, ", "), len(c.Disks)))
			}
			if err := bootside.Install(s.root, c); err != nil {
				return err
			}
			if err := s.updateInitramfs(); err != nil {
				return err
			}
			if bootside.TakesCredentials(s.root) {
				fmt.Fprintf(os.Stderr, "In this initramfs systemd does what strings in the firmware's tables tell it, and no launch measures those.\nAdd %s to the kernel command line, before you approve.\n", bootside.CredentialsWord)
			}
			if !launch {
				return s.report(c, "Installed. Next: aem-setup approve")
			}
			if err := s.updateGRUB(); err != nil {
				return err
			}
			return s.report(c, "Installed. Next: choose the entry in GRUB's menu, or make it the default, and\n  aem-setup approve --entry aem-launch-linux")
		},
	}
	cmd.Flags().BoolVar(&plain, "plain", false, "lines of text in place of the full screen")
	cmd.Flags().BoolVar(&launch, "launch", false, "entries in GRUB's menu that make a dynamic launch, too")
	dryRunFlag(cmd, &dryRun)
	return cmd
}

func bootRemove(s *setup) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "remove",
		Short: "Boot without a proof again",
		Args:  cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if dryRun {
				there := bootside.Present(s.root)
				return s.would(map[string][]string{"files": there}, "remove %d files, and make the initramfs anew: %s", len(there), cmp.Or(strings.Join(there, ", "), "none"))
			}
			if err := s.removeBootSide(); err != nil {
				return err
			}
			return s.report(map[string]bool{"removed": true}, "Removed. The next boot asks for the passphrase as it did before.")
		},
	}
	dryRunFlag(cmd, &dryRun)
	return cmd
}

// tryLaunch says what would be installed, and prints the menu entries.
func (s *setup) tryLaunch(c bootside.Config) error {
	entries, said, err := bootside.LaunchEntries(s.root)
	if err != nil {
		return err
	}
	fmt.Fprint(os.Stderr, said)
	text := entries + "# Nothing was changed."
	if entries == "" {
		text = "There would be no entry. Nothing was changed."
	}
	return s.report(struct {
		bootside.Config
		Entries, Said string
	}{c, entries, said}, text)
}

// installLaunch makes the menu entries on a machine that is not set up.
func (s *setup) installLaunch(dryRun bool) error {
	if dryRun {
		return s.tryLaunch(bootside.Config{Launch: true})
	}
	if err := bootside.InstallLaunch(s.root); err != nil {
		return err
	}
	if err := s.updateGRUB(); err != nil {
		return err
	}
	return s.report(bootside.Config{Launch: true}, "GRUB's menu has the entries. Restart by one of them, and then: aem-setup init")
}

// removeBootSide takes the boot's part away, if it is there.
func (s *setup) removeBootSide() error {
	launch, proof := bootside.LaunchInstalled(s.root), bootside.Installed(s.root)
	if !launch && !proof {
		return nil
	}
	err := bootside.Remove(s.root)
	if proof && err == nil {
		err = s.updateInitramfs()
	}
	if launch {
		err = errors.Join(err, s.updateGRUB())
	}
	return err
}

// updateGRUB writes GRUB's menu anew, by the program that Debian has for that, or by
// Fedora's. What the script of ours says is for the owner.
func (s *setup) updateGRUB() error {
	if s.root != "/" {
		return nil
	}
	fmt.Fprintln(os.Stderr, "Writing GRUB's menu anew ...")
	cmd := exec.Command("update-grub")
	if _, err := exec.LookPath("update-grub"); err != nil {
		cmd = exec.Command("grub2-mkconfig", "-o", "/boot/grub2/grub.cfg")
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("write GRUB's menu anew: %w: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "aem: ") {
			fmt.Fprint(os.Stderr, line)
		}
	}
	return nil
}

// updateInitramfs makes the initramfs anew.
func (s *setup) updateInitramfs() error {
	if s.root != "/" {
		return nil // another system's folder; whoever made it makes its initramfs
	}
	command, err := bootside.Remake(s.root)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "Making the initramfs anew ...")
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("make the initramfs anew: %w: %s", err, out)
	}
	return nil
}
