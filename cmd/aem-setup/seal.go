package main

import (
	"cmp"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/journal"
	"github.com/antievilmaid/aem/seal"
)

// sealOptions are the flags of aem-setup seal.
type sealOptions struct {
	kernel, initrd, cmdline string
	label, boot, entry      string
	present, pin, static    bool
	predicted, dryRun       bool
}

func sealCommand(s *setup) *cobra.Command {
	o := &sealOptions{}
	cmd := &cobra.Command{
		Use:   "seal",
		Short: "Seal the secret to a boot, and make that record the one that opens",
		Long: `seal seals the kept secret to boot states and commits the record to the medium: from
then on it opens, and every copy of an older record is dead.

Without files it seals to this boot, as its launch log tells after it was checked with
the TPM. With --kernel, --initrd and --cmdline, or with an entry of GRUB's menu (--entry),
it seals to the boot that these lead to, computed before it takes place; --and-present
adds this boot. If the initramfs is that of a stage 1, what stage 1 will start is computed,
too, from the disks that it mounts, by the policy that it asks. So a chain is sealed to
before its first boot, from a launch of its Linux or of any other.

--predicted seals to what aem predict --keep computed, which may be a launch that this
machine never made.

A machine without a dynamic launch can rest on the static root: --static-root seals to
what firmware and boot loader measured of themselves in this boot, PCRs 0 to 9. It is the
weaker grade, and the proof says so. What the next boot will measure can't be computed for it:
after an update the proof is refused once, and this command is run again.`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return sealSecret(cmd, s, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.kernel, "kernel", "", "kernel of the next boot")
	f.StringVar(&o.initrd, "initrd", "", "initramfs of the next boot")
	f.StringVar(&o.cmdline, "cmdline", "", "kernel command line of the next boot (default: this boot's)")
	f.StringVar(&o.entry, "entry", "", "GRUB's menu entry of the next boot: a title, an identifier, a number, or default")
	f.BoolVar(&o.predicted, "predicted", false, "seal to what aem predict --keep computed")
	f.StringVar(&o.label, "label", "", "what to call the state")
	f.StringVar(&o.boot, "boot", "", "the folder that GRUB reads (default: this machine's)")
	f.BoolVar(&o.present, "and-present", false, "approve this boot, too")
	f.BoolVar(&o.static, "static-root", false, "rest on firmware and boot loader, for a machine without a dynamic launch")
	dryRunFlag(cmd, &o.dryRun)
	f.BoolVar(&o.pin, "pin", false, "ask for a PIN before the secret is shown")
	return cmd
}

func sealSecret(cmd *cobra.Command, s *setup, o *sealOptions) error {
	if (o.kernel == "") != (o.initrd == "") {
		return cli.Usage("--kernel and --initrd belong together")
	}
	if o.static && (o.computed() != 0 || o.present) {
		return cli.Usage("--static-root seals to this boot alone")
	}
	if o.computed() > 1 {
		return cli.Usage("--kernel, --entry and --predicted name the next boot in three ways; give one of them")
	}
	m, home, closer, err := s.open()
	if err != nil {
		return err
	}
	defer closer.Close()
	boot, err := m.Boot()
	if err != nil {
		return err
	}
	states, err := o.states(m, home, boot, cmd.Flags().Changed("cmdline"))
	if err != nil {
		return err
	}
	var labels []string
	for i := range states {
		labels = append(labels, states[i].Label)
	}
	if o.dryRun {
		return s.would(map[string]any{"states": labels}, "seal to %s, and to nothing else", strings.Join(labels, "; "))
	}
	var pin []byte
	if o.pin {
		if pin, err = readNewPIN(); err != nil {
			return err
		}
		defer clear(pin)
	}
	sealed, err := m.Seal(home, states, pin)
	if err != nil {
		return err
	}
	// What later launches are explained against and computed from.
	if boot.Launch.State == drtm.Verified {
		if err := home.KeepLog(boot.Log); err != nil {
			return err
		}
		if err := home.LearnForms(boot, o.boot); err != nil {
			return err
		}
	}
	generation := uint64(0)
	for _, x := range sealed {
		generation = cmp.Or(generation, x.Generation) // a medium that is away has none
	}
	s.note(journal.Sealed, generation, map[string]string{"states": strings.Join(labels, "; ")}, "sealed to %s", strings.Join(labels, "; "))
	return s.report(map[string]any{"generation": generation, "states": labels, "media": sealed},
		fmt.Sprintf("Sealed as generation %d. It opens for: %s.", generation, strings.Join(labels, "; ")))
}

// states computes the boot states to approve.
func (o *sealOptions) states(m *aem.Machine, home aem.Home, boot *aem.Boot, ownCmdline bool) ([]seal.State, error) {
	if o.static {
		label := o.label
		if label == "" {
			label = "the boot that sealed it, without a launch"
		}
		s, err := m.StaticState(boot, label)
		if err != nil {
			return nil, err
		}
		return []seal.State{*s}, nil
	}
	var list []seal.State
	if o.computed() != 0 {
		next, err := o.next(m, home, boot, ownCmdline)
		if err != nil {
			return nil, err
		}
		list = append(list, *next)
	}
	if o.computed() == 0 || o.present {
		label := o.label
		if label == "" || o.computed() != 0 {
			label = "the boot that sealed it"
		}
		present, err := boot.Present(label)
		if err != nil {
			return nil, err
		}
		list = append(list, *present)
	}
	return list, nil
}

// computed counts the ways in which the next boot is named.
func (o *sealOptions) computed() int {
	n := 0
	for _, named := range []bool{o.kernel != "", o.entry != "", o.predicted} {
		if named {
			n++
		}
	}
	return n
}

// next computes the state of the next boot.
func (o *sealOptions) next(m *aem.Machine, home aem.Home, boot *aem.Boot, ownCmdline bool) (*seal.State, error) {
	if o.predicted {
		return home.Predicted(boot, cmp.Or(o.label, "the boot that was predicted"))
	}
	if o.entry != "" {
		menu, err := aem.BootMenu(o.boot)
		if err != nil {
			return nil, err
		}
		e, err := menu.Find(o.entry)
		if err != nil {
			return nil, fmt.Errorf("look for the boot entry: %w", err)
		}
		var log *eventlog.Log
		if boot.Log != nil {
			log = boot.Log.Log
		}
		files, err := aem.BootOf(menu, e, log)
		if err != nil {
			return nil, err
		}
		return m.Next(boot, files, o.boot, cmp.Or(o.label, e.Title))
	}
	f := &drtm.Boot{Kind: drtm.Linux, Line: o.cmdline}
	var err error
	if f.Image, err = os.ReadFile(o.kernel); err != nil {
		return nil, fmt.Errorf("read the next boot's kernel: %w", err)
	}
	if f.Initrd, err = os.ReadFile(o.initrd); err != nil {
		return nil, fmt.Errorf("read the next boot's initramfs: %w", err)
	}
	if !ownCmdline {
		line, err := os.ReadFile("/proc/cmdline")
		if err != nil {
			return nil, fmt.Errorf("read this boot's command line: %w", err)
		}
		f.Line = strings.TrimSuffix(string(line), "\n")
	}
	return m.Next(boot, f, o.boot, cmp.Or(o.label, "boot of "+o.kernel))
}
