package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/antievilmaid/aem/internal/bootentry"
	"github.com/antievilmaid/aem/internal/luks"
)

// The names of the rows about the installed system.
const (
	RowBootPath   = "firmware and GRUB"
	RowBootEntry  = "boot entry"
	RowEncryption = "disk encryption"
	RowVolumes    = "LUKS volumes"
	RowInitramfs  = "initramfs"
	RowClock      = "clock"
)

// The chapters of the manual that the rows refer to.
const (
	manualBegin  = "AEM's manual, From nothing to the first proof"
	manualLaunch = "AEM's manual, Entries that launch"
	manualUpdate = "AEM's manual, Before an update"
	manualDisks  = "AEM's measurement of LUKS headers (docs/formats/luks-measurement.md)"
)

// ExamineSystem judges the installed system, in rows like those of [Examine].
func ExamineSystem(s *System) []Record {
	var records []Record
	for _, c := range []struct {
		name     string
		required bool
		chapter  string
		run      func(*System) finding
	}{
		{RowBootPath, false, manualUpdate, (*System).bootPath},
		{RowBootEntry, false, manualLaunch, (*System).bootEntry},
		{RowEncryption, true, manualBegin, (*System).encryption},
		{RowVolumes, false, manualDisks, (*System).volumes},
		{RowInitramfs, true, manualBegin, (*System).initramfsRow},
		{RowClock, false, "RFC 6238, clause 5.2; TPM 2.0 Library, part 1, clause 36", (*System).clockRow},
	} {
		f := c.run(s)
		records = append(records, Record{
			Name: c.name, Required: c.required, Chapter: c.chapter,
			State: f.state, Text: printable(f.text), Advice: printable(f.advice),
		})
	}
	return records
}

func (s *System) firmware() string {
	if s.UEFI {
		return "UEFI"
	}
	return "a BIOS"
}

// bootPath: what boots is computed from GRUB's menu.
func (s *System) bootPath() finding {
	if s.MenuErr != nil {
		return warning("without GRUB's menu, give the files of the next boot by hand: aem-setup seal --kernel, aem predict --kernel",
			"%s; GRUB's menu could not be read: %s", s.firmware(), why(s.MenuErr))
	}
	text := fmt.Sprintf("%s, and GRUB with %d entries", s.firmware(), len(s.Menu.Entries))
	if len(s.Menu.Assumed) > 0 {
		text += "; taken for granted: " + strings.Join(s.Menu.Assumed, "; ")
	}
	return good("%s", text)
}

func (s *System) bootEntry() finding {
	const byName = "name the entry that you boot with --entry: aem-setup approve --entry"
	switch {
	case s.MenuErr != nil:
		return notApplicable("GRUB's menu could not be read")
	case s.EntryErr != nil:
		return warning(byName, "what the default entry loads can't be told: %s", why(s.EntryErr))
	case s.Entry.Kind == bootentry.Chainloader:
		return warning(byName, "the default entry, %q, starts the EFI program %s, which names its files elsewhere", s.Entry.Title, s.Entry.Kernel.Path)
	case s.Entry.Kind == bootentry.Nothing:
		return warning(byName, "the default entry, %q, starts no system", s.Entry.Title)
	}
	text := fmt.Sprintf("the default is %q: %s", s.Entry.Title, s.Entry.Kernel.Path)
	launches := slices.ContainsFunc(s.Menu.Entries, makesLaunch)
	switch {
	case makesLaunch(*s.Entry):
		return good("%s; it makes a dynamic launch", text)
	case launches:
		return warning("choose one that does in GRUB's menu, or for every boot by GRUB_DEFAULT in /etc/default/grub", "%s; it makes no dynamic launch, and others do", text)
	case s.LaunchGot:
		return warning("run update-grub, and read what it says about entries for a dynamic launch", "%s; no entry makes a dynamic launch, although they were asked for", text)
	}
	return warning("aem-setup boot install --launch makes entries that do, where TrenchBoot's GRUB is installed", "%s; no entry makes a dynamic launch", text)
}

func makesLaunch(e bootentry.Entry) bool { return e.MakesLaunch() }

// encryption: a proof protects the passphrase that is typed after it.
func (s *System) encryption() finding {
	var plain *luks.UnencryptedError
	switch {
	case errors.As(s.RootErr, &plain):
		return bad("encrypt the root file system, which needs a new installation as a rule; aem-setup init --no-disks goes on without, and then a root that was exchanged is not noticed",
			"the root file system is not encrypted: %v", s.RootErr)
	case s.RootErr != nil:
		return unknown("", "what the root file system lies on can't be told: %s", why(s.RootErr))
	}
	var list []string
	for _, v := range s.Root {
		list = append(list, volumeText(v))
	}
	return good("the root file system lies on %s", strings.Join(list, " and "))
}

func volumeText(v luks.Volume) string {
	if v.Header == nil {
		return v.Device
	}
	slots := "1 key slot"
	if n := len(v.Header.KeySlots); n != 1 {
		slots = fmt.Sprintf("%d key slots", n)
	}
	return fmt.Sprintf("%s (LUKS%d, %s, UUID %s)", v.Device, v.Header.Version, slots, v.Header.UUID)
}

// volumes: each header that is measured must be readable, and there only once.
func (s *System) volumes() finding {
	if s.VolumeErr != nil && len(s.Volumes) == 0 {
		return unknown("", "the disks could not be looked at: %s", why(s.VolumeErr))
	}
	var odd, old, other []string
	forbidden := 0
	for _, v := range s.Volumes {
		isRoot := slices.ContainsFunc(s.Root, func(r luks.Volume) bool { return r.Device == v.Device })
		switch {
		case v.Header == nil || v.Err != nil:
			odd = append(odd, fmt.Sprintf("%s: %s", v.Device, why(v.Err)))
			if errors.Is(v.Err, fs.ErrPermission) {
				forbidden++
			}
		case v.Header.Version == 1:
			old = append(old, v.Device)
		}
		if v.Header != nil && !isRoot {
			other = append(other, volumeText(v))
		}
	}
	text := fmt.Sprintf("%d volumes", len(s.Volumes)-len(odd))
	if len(s.Volumes)-len(odd) == 1 {
		text = "1 volume"
	}
	if len(other) > 0 {
		text += "; not the root's, and measured only if named with aem-setup init --disk: " + strings.Join(other, ", ")
	}
	switch {
	case s.VolumeErr != nil:
		return bad("", "%s", why(s.VolumeErr))
	case forbidden > 0:
		return unknown(rootAdvice, "%s; can't be looked at: %s", text, strings.Join(odd, "; "))
	case len(odd) > 0:
		return warning("a disk that is not yours, disconnect; one that is, let cryptsetup repair look at, after a backup", "%s; can't be measured: %s", text, strings.Join(odd, "; "))
	case len(old) > 0:
		return warning("cryptsetup convert --type luks2, and cryptsetup luksConvertKey --pbkdf argon2id, make the passphrase harder to guess, after a backup of the header; GRUB itself opens LUKS1 only, as a rule", "%s; of the older form, LUKS1: %s", text, strings.Join(old, ", "))
	case len(s.Volumes) == 0:
		return notApplicable("there is no LUKS volume")
	}
	return good("%s", text)
}

// initramfsRow: the proof is shown from there.
func (s *System) initramfsRow() finding {
	names := strings.Join(s.Makers, " and ")
	const again = "make the initramfs anew (update-initramfs -u, or dracut --force), and approve the next boot"
	switch {
	case len(s.Makers) == 0:
		return bad("run aem unseal --gate --power-off in your initramfs before anything asks for a passphrase", "which program makes the initramfs is not known")
	case !s.Supported:
		return bad("run aem unseal --gate --power-off in your initramfs before anything asks for a passphrase", "it is made by %s, into which aem-setup boot install puts nothing yet", names)
	case !s.Installed:
		return good("it is made by %s; the proof is not in it before aem-setup boot install", names)
	case s.Image.Err != nil:
		return unknown("", "it is made by %s, with the proof; whether the next boot's has it can't be told: %s", names, why(s.Image.Err))
	case !s.Image.Read:
		return unknown("", "it is made by %s, with the proof; which one will boot is not known", names)
	case !s.Image.Holds:
		return warning(again, "it is made by %s, with the proof; the one that will boot does not have it", names)
	case !s.Image.Current:
		return warning(again, "it is made by %s, with the proof; the one that will boot was made before the last aem-setup boot install", names)
	}
	return good("it is made by %s, and the one that will boot shows the proof", names)
}

// The years in which a clock is believed: this program is not older, and disks live
// not so long.
const firstYear, lastYear = 2026, 2080

// apart is how far two clocks that were set by the same hand may be apart.
const apart = 2 * time.Minute

// clockRow: one-time codes depend on the time, and no clock of a machine's is trusted.
func (s *System) clockRow() finding {
	const set = "set the clock; if it goes wrong again and again, its battery is empty"
	now := s.Now.UTC()
	text := now.Format("2006-01-02 15:04 MST")
	off := s.RTC.Sub(s.Now)
	switch year := now.Year(); {
	case year < firstYear || year > lastYear:
		return bad(set, "it says %s", text)
	case s.Now.Before(s.Newest.Add(-apart)):
		return warning(set, "it says %s, and %s in /boot was changed at %s", text, s.NewestOf, s.Newest.UTC().Format("2006-01-02 15:04"))
	case !s.RTC.IsZero() && off.Abs() > apart && wholeQuarters(off):
		return warning("let the clock of the hardware run in UTC (timedatectl set-local-rtc 0): codes shown before the system knows its time zone would be wrong",
			"it says %s, and the clock of the hardware is off by %s, like a time zone", text, off.Round(time.Minute))
	case !s.RTC.IsZero() && off.Abs() > apart:
		return warning("hwclock --systohc sets the clock of the hardware, by which the initramfs goes", "it says %s, and the clock of the hardware is off by %s", text, off.Round(time.Second))
	case s.ClockErr != nil:
		return warning("", "it says %s; the TPM's clock could not be read: %v", text, s.ClockErr)
	case s.Clock != nil && powered(s.Clock.Milliseconds) < s.Uptime-s.Uptime/5-apart:
		return warning("if you did not clear the TPM in this boot, ask why", "it says %s; the TPM's clock runs for %s and the system for %s: the TPM was cleared, or exchanged, while the system ran",
			text, powered(s.Clock.Milliseconds).Round(time.Second), s.Uptime.Round(time.Second))
	}
	if s.Clock != nil {
		text += fmt.Sprintf("; the TPM had power for %s since it was cleared, in %d starts", days(powered(s.Clock.Milliseconds)), s.Clock.Resets)
	}
	return good("%s", text)
}

// wholeQuarters reports whether a difference is that of a time zone: quarters of an
// hour, of 14 hours at most.
func wholeQuarters(d time.Duration) bool {
	const quarter = 15 * time.Minute
	return (d-d.Round(quarter)).Abs() <= apart && d.Abs() >= quarter-apart && d.Abs() <= 14*time.Hour+apart
}

// powered is a TPM's clock as a duration; its owner may have set it to any value.
func powered(milliseconds uint64) time.Duration {
	const century = 100 * 365 * 24 * time.Hour
	return time.Duration(min(milliseconds, uint64(century/time.Millisecond))) * time.Millisecond
}

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return d.Round(time.Second).String()
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// neededToProve are the rows without which nothing can be set up, by a launch or not.
var neededToProve = []string{RowTPM, RowTPMOn, RowBanks, RowEncryption, RowInitramfs}

// JudgeSetUp says whether AEM can be set up, from the rows of both examinations. What
// stands in the way of a launch only, [Judge] says.
func JudgeSetUp(records []Record) Verdict {
	rows := map[State][]string{}
	for _, name := range neededToProve {
		state := Unknown
		if r := Find(records, name); r != nil {
			state = r.State
		}
		rows[state] = append(rows[state], name)
	}
	v := Verdict{State: Good, Text: "AEM can be set up: aem-setup init."}
	switch {
	case len(rows[Bad]) > 0:
		v = Verdict{State: Bad, Rows: rows[Bad], Text: "AEM can't be set up as things are. Look at: " + strings.Join(rows[Bad], ", ") + "."}
	case len(rows[Unknown]) > 0:
		v = Verdict{State: Unknown, Rows: rows[Unknown], Text: "Whether AEM can be set up is not known. Look at: " + strings.Join(rows[Unknown], ", ") + "."}
	}
	return v
}
