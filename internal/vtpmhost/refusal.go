package vtpmhost

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/journal"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/device"
	"github.com/antievilmaid/aem/vtpm/root"
	"github.com/antievilmaid/aem/vtpm/store"
)

// Refusal is why there are no vTPMs on this machine now.
type Refusal struct {
	Exit     aem.Exit
	Sentence string
	Advice   string
	Detail   string
}

// refusals are looked through in this order: the first whose error is wrapped is it.
var refusals = []struct {
	err              error
	exit             aem.Exit
	sentence, advice string
}{
	{device.ErrNoTPM, aem.ExitNotPossible, "This machine shows no TPM, so nothing protects its guests' TPMs.",
		"Look in the firmware's setup whether it is switched off, and whether the kernel has a driver for it."},
	{tpm.ErrBusy, aem.ExitError, "Other programs keep the TPM busy, so the guests' TPMs stay closed.",
		"Look who uses it (fuser -v /dev/tpm*). A TPM 1.2 is for one program at a time. systemd starts vtpmd again by itself."},
	{syscall.EROFS, aem.ExitError, "The disk with the store of guests' TPMs is read-only.",
		"Look into the kernel's log: a disk that fails is made read-only. Nothing was changed; mount it for writing, and start vtpmd again."},
	{syscall.ENOSPC, aem.ExitError, "The disk with the store of guests' TPMs is full.",
		"Make room. Nothing was changed; systemd starts vtpmd again by itself."},
	{ErrNotSetUp, aem.ExitNotPossible, "No vTPM manager was set up on this machine.",
		"Run vtpmd init once, in a boot that was launched as approved. If it was set up, its folder was removed: do not run init; with the escrow, vtpmctl recover."},
	{ErrNotLaunched, aem.ExitMeasurements, "This boot was not a dynamic launch, so nothing vouches for what is running.",
		"Boot the entry with the measured launch; or choose the weaker static root, with --static-root."},
	{root.ErrNoLaunch, aem.ExitMeasurements, "This boot was not a dynamic launch, so nothing vouches for what is running.",
		"Boot the entry with the measured launch; or choose the weaker static root, with --static-root."},
	{seal.ErrMeasurements, aem.ExitMeasurements, "This boot is not one that was approved, so the guests' TPMs stay closed.",
		"Boot an approved one and run vtpmctl approve there. If you changed nothing yourself, somebody else has. If no approved boot is left, vtpmctl recover takes this one, with the escrow."},
	{ErrOwnSetUp, aem.ExitOtherTPM, "This machine's own anti-evil-maid set-up was made with another TPM than it has.",
		"Set it up anew first: aem-setup uninstall, then aem-setup init. That does not touch the guests' TPMs."},
	{ErrHere, aem.ExitError, "This TPM is the one that the store of guests' TPMs rests on, and it has its counter still.",
		"Use vtpmctl recover: it proves that the store is the newest. After it, vtpmctl restore BACKUP takes a backup, if one is needed."},
	{ErrNoEscrow, aem.ExitError, "The escrow does not open with this identity.",
		"Look for the identity that it was made for, and for another copy of it. Nothing was changed."},
	{seal.ErrCleared, aem.ExitOtherTPM, "The TPM is the right one, but it was cleared since the store was made.",
		"The guests' TPMs can't be opened with it any more, but with the escrow: vtpmctl restore --escrow. If you did not clear it, somebody was in the firmware's setup."},
	{seal.ErrOtherTPM, aem.ExitOtherTPM, "This is not the TPM that the store of guests' TPMs was made with.",
		"It was cleared, or it is another machine's. Use the machine that the store was made on; or, with the escrow, take the store to this one: vtpmctl restore --escrow."},
	{seal.ErrOtherFamily, aem.ExitOtherTPM, "The store of guests' TPMs was made with a TPM of the other family.",
		"Some firmwares can switch between TPM 1.2 and 2.0; switch back."},
	{store.ErrRolledBack, aem.ExitStale, "The store of guests' TPMs was put back from an earlier time.",
		"Put the newest one in its place. If there is none any more, vtpmctl restore takes an older one, and says what that breaks."},
	{store.ErrAhead, aem.ExitOtherTPM, "The store of guests' TPMs is newer than this TPM's counter knows.",
		"The TPM, or the store, is another one than it was."},
	{seal.ErrStale, aem.ExitStale, "The sealed key of the store is an older one than the TPM's counter demands.",
		"The folder with the key was put back from an earlier time. Put the newest one in its place, or seal the key anew with the escrow: vtpmctl recover."},
	{store.ErrOtherRoot, aem.ExitOtherTPM, "The store of guests' TPMs was made with another key.",
		"Put the store in its place that belongs to the key."},
	{store.ErrMissing, aem.ExitDamaged, "The store of guests' TPMs is missing.",
		"Put it, or a backup of it, in its place: vtpmctl restore. Nothing is made anew by itself."},
	{store.ErrLost, aem.ExitDamaged, "Something was taken out of the store of guests' TPMs.",
		"Put the newest one in its place, or a backup: vtpmctl restore."},
	{store.ErrAdded, aem.ExitDamaged, "Something was put into the store of guests' TPMs by somebody else.",
		"Put the newest one in its place, or a backup: vtpmctl restore."},
	{store.ErrForeign, aem.ExitDamaged, "In the store of guests' TPMs one was exchanged for another.",
		"Put the newest one in its place, or a backup: vtpmctl restore."},
	{store.ErrDamaged, aem.ExitDamaged, "The store of guests' TPMs is damaged.",
		"Put a backup in its place: vtpmctl restore. Look at the disk."},
	{seal.ErrDamaged, aem.ExitDamaged, "The sealed key of the store is damaged.",
		"Put the folder with the key back, or seal the key anew with the escrow: vtpmctl recover."},
	{seal.ErrNoRecord, aem.ExitDamaged, "The sealed key of the store is missing.",
		"Put the folder with the key back, or seal the key anew with the escrow: vtpmctl recover. Nothing is made anew by itself."},
	{store.ErrBusy, aem.ExitError, "Another process has the store of guests' TPMs open.",
		"Look whether vtpmd runs; if it is to be ended: systemctl stop vtpmd."},
	{store.ErrExists, aem.ExitError, "A vTPM manager was set up on this machine already.",
		"To begin anew, and lose all vTPMs, move its folder away first."},
}

// Refuse finds the sentence for an error; nil where there is none of its own.
func Refuse(err error) *Refusal {
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return &Refusal{r.exit, r.sentence, r.advice, err.Error()}
		}
	}
	return nil
}

// Say prints why there are no vTPMs, where that has a sentence, notes it in the journal and keeps the exit
// code.
func (w Where) Say(errs io.Writer, program string, err error) error {
	r := Refuse(err)
	if r == nil {
		return err
	}
	fmt.Fprintf(errs, "%s: %s\n%s\n(%s)\n", program, r.Sentence, r.Advice, r.Detail)
	if j, e := journal.Open(w.State); e == nil {
		if _, e := os.Stat(w.State); e == nil {
			e = j.Append(journal.Entry{Kind: journal.Refused, Text: r.Sentence, Details: map[string]string{"because": r.Detail}})
			if e != nil && !errors.Is(e, os.ErrPermission) {
				fmt.Fprintf(errs, "%s: this could not be written into the journal: %v\n", program, e)
			}
		}
	}
	return cli.Done{Exit: r.Exit}
}
