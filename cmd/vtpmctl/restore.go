package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/journal"
	"github.com/antievilmaid/aem/internal/vtpmhost"
	"github.com/antievilmaid/aem/vtpm/root"
	"github.com/antievilmaid/aem/vtpm/store"
)

// What taking guests' TPMs back breaks, whatever is restored, and where a store is moved or its key recovered.
const (
	broken = `How old the backup is, nobody can say. Each guest may find itself in the past: its counters lower, passwords
that it changed old again, keys that it destroyed back. vTPMs that were made since then are gone. If the
backup is also used on another machine, its guests' TPMs exist twice.`
	brokenMoved = `The counter that tells the newest store from older ones is in the old TPM, and so the same is true of the
store that came with the disk. See to it that the old machine does not start these guests again.`
	brokenRecovered = `The boot that runs now becomes an approved one. If it was not you who changed this machine, whoever did gets
at all guests' TPMs. The boots that were approved before open the store no more, but those that aem-setup
approves. Guests' TPMs stay as they are; an older store is refused as before.`
)

func restoreCommand(c *control) *cobra.Command {
	h := &hand{control: c}
	var escrow bool
	cmd := &cobra.Command{
		Use:   "restore [BACKUP]",
		Short: "Put a backup in the store's place, or take the store to this TPM, while vtpmd does not run",
		Long: `restore proves every vTPM of a backup (vtpmctl backup), or of an older store, and makes a new store of them
that this machine's TPM accepts as the newest. The store that was there is moved aside, not removed. Where
one vTPM of the backup can't be proved, nothing is restored.

` + broken + `

With --escrow and --identity it takes the store to a TPM that it was not made on: the old machine, or its main
board, is gone, or its TPM was cleared. Without BACKUP it takes the store that is in its place, which came
with the disk. The boot that runs, which has to be launched as for vtpmd init, is approved, and what
aem-setup approves beside it. The key is to be escrowed anew then. A TPM 1.2 without an owner gets one, with
the password of --owner-password-file: without it, with a random one, and if something fails after that, only
the firmware's setup frees the TPM for a second try.

` + brokenMoved + `

Without --yes nothing is done: it says what this would break, and whether escrow, identity and backup are
good. That is worth trying before it is needed, on any machine; it takes no TPM.`,
		Args: func(_ *cobra.Command, args []string) error {
			escrow = h.escrow != "" || h.identity != ""
			switch {
			case len(args) > 1:
				return cli.Usage("%q is one argument too many", args[1])
			case escrow:
				return h.complete()
			case len(args) == 0:
				return cli.Usage("BACKUP is missing")
			case h.static || h.owner != "" || h.password != "":
				return cli.Usage("these options are for --escrow")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			from := ""
			if len(args) == 1 {
				from = args[0]
			}
			return h.run(func() error {
				if !escrow {
					return h.restore(from)
				}
				return h.opened(func(secret []byte) error { return h.move(secret, from) })
			})
		},
	}
	h.flags(cmd)
	cmd.Flags().StringVar(&h.owner, "owner-password-file", "", "file with the new TPM's owner password, - for the standard input (default: it has none, or aem-setup keeps it)")
	return cmd
}

func recoverCommand(c *control) *cobra.Command {
	h := &hand{control: c}
	cmd := &cobra.Command{
		Use:   "recover --escrow FILE --identity KEYFILE",
		Short: "Have the store open in this boot, with the escrow, while vtpmd does not run",
		Long: `recover is the way back where this machine's TPM is the one that the store was made on, and its key does not
open: the machine was changed before the change was approved, no approved boot is left, or the folder with
the key is lost or damaged. It seals the key for the boot that runs, which has to be launched as for vtpmd
init, and for those that aem-setup approves.

` + brokenRecovered + `

Where the TPM is another one, or was cleared, vtpmctl restore --escrow is the way.

Without --yes nothing is done: it says this, and whether escrow and identity are good.`,
		Args: func(_ *cobra.Command, args []string) error {
			return errors.Join(cli.NoArgs(nil, args), h.complete())
		},
		RunE: func(*cobra.Command, []string) error {
			return h.run(func() error { return h.opened(h.recover) })
		},
	}
	h.flags(cmd)
	return cmd
}

// hand is what is done on the store's folder while vtpmd does not run.
type hand struct {
	*control
	where    vtpmhost.Where
	yes      bool
	static   bool
	escrow   string // files
	identity string
	password string
	owner    string
}

func (h *hand) flags(cmd *cobra.Command) {
	whereFlags(cmd, &h.where)
	f := cmd.Flags()
	f.StringVar(&h.escrow, "escrow", "", "the file that vtpmctl escrow wrote")
	f.StringVar(&h.identity, "identity", "", "file with the secret key that belongs to it, as age-keygen writes it; it may be encrypted with a passphrase")
	f.StringVar(&h.password, "password-file", "", "file with the identity's passphrase, - for the standard input (default: it is asked for)")
	f.BoolVar(&h.static, "static-root", false, "rely on what firmware and boot loader measured, without a dynamic launch")
	f.BoolVar(&h.yes, "yes", false, "do it, knowing what it breaks")
}

func (h *hand) complete() error {
	if h.escrow == "" || h.identity == "" {
		return cli.Usage("both --escrow and --identity are needed")
	}
	return nil
}

// run does something with the store's key, and prints why it can't be, where that has a sentence.
func (h *hand) run(do func() error) error {
	if err := vtpmhost.KeepSecrets(); err != nil {
		h.tell(err.Error())
	}
	return h.where.Say(h.errs, "vtpmctl", do())
}

// unless says what something breaks, where nobody said that he knows.
func (h *hand) unless(text string) error {
	if h.yes {
		return nil
	}
	h.tell(text)
	return cli.Usage("to do it all the same, say --yes")
}

// with opens the machine while no vtpmd does.
func (h *hand) with(do func(m *vtpmhost.Machine) error) error {
	lock, err := h.where.Lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	m, err := vtpmhost.Open(h.where)
	if err != nil {
		return err
	}
	defer m.Close()
	return do(m)
}

func (h *hand) note(e journal.Entry) error {
	j, err := journal.Open(h.where.State)
	if err != nil {
		return err
	}
	return j.Append(e)
}

func (h *hand) restore(from string) error {
	if err := h.unless(broken); err != nil {
		return err
	}
	return h.with(func(m *vtpmhost.Machine) error {
		aside, err := m.Restore(from)
		if err != nil {
			return err
		}
		text := fmt.Sprintf("%s was restored.", from)
		if aside != "" {
			text += fmt.Sprintf("\nThe store that was there is now %s; nothing opens it any more but another restore.", aside)
		}
		return errors.Join(h.report(map[string]string{"restored": from, "aside": aside}, text),
			h.note(journal.Entry{Kind: journal.Restored, Text: "a backup took the store's place", Details: map[string]string{"from": from, "aside": aside}}))
	})
}

func (h *hand) move(secret []byte, from string) error {
	if err := h.proved(secret, from); err != nil {
		return err
	}
	if err := h.unless(broken + "\n" + brokenMoved); err != nil {
		return err
	}
	owner, err := cli.Password(h.owner)
	if err != nil {
		return err
	}
	defer clear(owner)
	return h.with(func(m *vtpmhost.Machine) error {
		h.tell("Preparing the TPM; a slow one takes up to a minute ...")
		moved, err := m.Move(secret, from, h.static, owner)
		if err != nil {
			return err
		}
		text := fmt.Sprintf("The store %s rests on this TPM now.", moved.ID)
		for _, a := range moved.Aside {
			text += fmt.Sprintf("\nWhat was in its place is now %s; remove it when the guests run.", a)
		}
		text += h.weak() + "\nEscrow its key anew (vtpmctl escrow): the old escrow is no help to vtpmctl recover on this TPM, though it opens every copy of the store."
		return errors.Join(h.report(map[string]any{"store": moved.ID.String(), "aside": moved.Aside}, text),
			h.note(journal.Entry{Kind: journal.Moved, Text: "the store " + moved.ID.String() + " was taken to this TPM with the escrow", Details: map[string]string{"from": from}}))
	})
}

// proved says whose escrow it is, and holds what is to be restored against it.
func (h *hand) proved(secret []byte, from string) error {
	id, key, err := root.Escrowed(secret)
	if err != nil {
		return err
	}
	defer clear(key)
	if from == "" {
		from = h.where.Store()
	}
	if err := store.Check(from, key); err != nil {
		return err
	}
	h.tell(fmt.Sprintf("The escrow opens. It is that of the store %s, and each vTPM in %s is proved by it.", id, from))
	return nil
}

func (h *hand) recover(secret []byte) error {
	id, key, err := root.Escrowed(secret)
	if err != nil {
		return err
	}
	clear(key)
	h.tell(fmt.Sprintf("The escrow opens. It is that of the store %s.", id))
	if err := h.unless(brokenRecovered); err != nil {
		return err
	}
	return h.with(func(m *vtpmhost.Machine) error {
		if err := m.Recover(secret, h.static); err != nil {
			return err
		}
		if err := h.note(journal.Entry{Kind: journal.Recovered, Text: "the key of the store " + id.String() + " was sealed for this boot with the escrow"}); err != nil {
			return err
		}
		// Opened once, the store begins an epoch, from which on a copy of the record before is dead; and
		// whoever is frightened hears now whether it is there.
		r, s, err := m.OpenStore()
		if err != nil {
			return fmt.Errorf("the key was sealed for this boot, and the store that belongs to it does not open: %w", err)
		}
		defer r.Close()
		return errors.Join(s.Close(), h.report(map[string]string{"store": id.String()}, fmt.Sprintf("The store %s opens in this boot.", id)+h.weak()))
	})
}

// weak says what the static root is.
func (h *hand) weak() string {
	if !h.static {
		return ""
	}
	return "\nIt rests on the static root, not on a dynamic launch: who changes the firmware can make it measure what she likes."
}
