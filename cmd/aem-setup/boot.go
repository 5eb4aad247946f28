package main

import (
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
approve the next boot afterwards: aem-setup approve.`,
	}
	cmd.AddCommand(bootInstall(s), bootRemove(s))
	return cmd
}

func bootInstall(s *setup) *cobra.Command {
	var plain, dryRun bool
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Show the proof at each boot",
		Args:  cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			setup, err := aem.OpenHome(s.home).Setup()
			if err != nil {
				return err
			}
			media, err := setup.BootNames()
			if err != nil {
				return err
			}
			c := bootside.Config{Media: media, Disks: setup.Disks, Plain: plain}
			if dryRun {
				return s.report(c, fmt.Sprintf("Would install the hook with the media %s and %d disks. Nothing was changed.", strings.Join(c.Media, ", "), len(c.Disks)))
			}
			if err := bootside.Install(s.root, c); err != nil {
				return err
			}
			if err := s.updateInitramfs(); err != nil {
				return err
			}
			return s.report(c, "Installed. Next: aem-setup approve")
		},
	}
	cmd.Flags().BoolVar(&plain, "plain", false, "lines of text in place of the full screen")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be installed, and do nothing")
	return cmd
}

func bootRemove(s *setup) *cobra.Command {
	return &cobra.Command{
		Use:   "remove",
		Short: "Boot without a proof again",
		Args:  cli.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := s.removeBootSide(); err != nil {
				return err
			}
			return s.report(map[string]bool{"removed": true}, "Removed. The next boot asks for the passphrase as it did before.")
		},
	}
}

// removeBootSide takes the boot's part away, if it is there.
func (s *setup) removeBootSide() error {
	if !bootside.Installed(s.root) {
		return nil
	}
	if err := bootside.Remove(s.root); err != nil {
		return err
	}
	return s.updateInitramfs()
}

// updateInitramfs makes the initramfs anew.
func (s *setup) updateInitramfs() error {
	if s.root != "/" {
		return nil // another system's folder; whoever made it makes its initramfs
	}
	fmt.Fprintln(os.Stderr, "Making the initramfs anew ...")
	cmd := exec.Command("update-initramfs", "-u")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make the initramfs anew: %w: %s", err, out)
	}
	return nil
}
