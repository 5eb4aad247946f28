package luks

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNotLUKS is returned where there is no LUKS header.
var ErrNotLUKS = errors.New("there is no LUKS header")

// ErrDamaged is wrapped where there is a header and cryptsetup could not open it either:
// both copies of a LUKS2 header are damaged, or a header claims more than its device has.
var ErrDamaged = errors.New("the LUKS header is damaged; restore it from a backup with cryptsetup luksHeaderRestore")

// ErrMalformed is wrapped where a header breaks the format's rules or is written in a way
// in which cryptsetup never writes one. Its checksum is right, so somebody made it so.
var ErrMalformed = errors.New("the LUKS header breaks the rules of its format")

// ErrUnsupported is wrapped where a header is, or may be, in order, but says something that
// can't be measured here because it is not known what it means.
var ErrUnsupported = errors.New("this kind of LUKS volume can't be measured")

// ErrReencrypting is wrapped where the header says that the volume is being encrypted anew,
// or decrypted. It changes with every step of that, so there is nothing to seal to. And
// whoever writes such a header on somebody's disk has the owner's next login decrypt it
// (CVE-2021-4122), so the message must not send anybody to finish the work.
var ErrReencrypting = errors.New("the header says that the LUKS volume is being re-encrypted or decrypted; if you did not begin that, do not unlock it but restore the header from a backup")

// A RequirementError names the mandatory requirements of a LUKS2 header that are not
// known. A program that does not know one must not touch the volume (LUKS2 On-Disk Format
// Specification, section 3.6). It wraps ErrUnsupported.
type RequirementError struct {
	Names []string // as in the header: somebody else's text
}

func (e *RequirementError) Error() string {
	return fmt.Sprintf("%v: its header demands %s", ErrUnsupported, quoteAll(e.Names))
}

// Unwrap gives ErrUnsupported.
func (e *RequirementError) Unwrap() error { return ErrUnsupported }

// A Copy is one of the two copies of a LUKS2 header.
type Copy uint8

// The copies. The zero Copy is none of them.
const (
	Primary   Copy = 1 // at the volume's start
	Secondary Copy = 2 // right after it
)

func (c Copy) String() string {
	switch c {
	case Primary:
		return "first"
	case Secondary:
		return "second"
	}
	return "unknown"
}

// A CopyError says that the two copies of a LUKS2 header are not the same. Open returns it
// together with the Header that cryptsetup uses: the only intact one, else the one with
// the higher sequence id, else the first. A power cut in the middle of a write leaves such
// a header, and cryptsetup mends it by itself when it next opens the volume. Whoever gets
// this error may go on with the Header, and should say so.
type CopyError struct {
	Used   Copy
	Reason string // what is wrong with the other one
}

func (e *CopyError) Error() string {
	return fmt.Sprintf("the two copies of the LUKS2 header differ (%s); cryptsetup uses the %s and mends the other when it opens the volume", e.Reason, e.Used)
}

// A DuplicateError says that one UUID, or one label, belongs to several devices. Which of
// them is opened depends on the order in which they are found: an evil maid copies the
// header to her own disk and hopes for hers. A snapshot or a clone of a disk looks the same.
type DuplicateError struct {
	What    string   // "UUID" or "label"
	Value   string   // that UUID or label
	Devices []string // such as /dev/sda2, at least two
}

func (e *DuplicateError) Error() string {
	return fmt.Sprintf("several LUKS volumes have the %s %s: %s; disconnect all but yours, or give the copy another with cryptsetup luksUUID or cryptsetup config --label",
		e.What, clip(e.Value), strings.Join(e.Devices, ", "))
}

// An UnencryptedError says that a device does not lie on LUKS, or not with all its parts.
type UnencryptedError struct {
	Device string // what was asked about
	Part   string // what lies below it, without LUKS in between; may be the same
	Reason string
}

func (e *UnencryptedError) Error() string {
	if e.Part == e.Device {
		return fmt.Sprintf("%s is not encrypted with LUKS: %s", e.Device, e.Reason)
	}
	return fmt.Sprintf("%s is not encrypted with LUKS as a whole: it lies on %s, and %s", e.Device, e.Part, e.Reason)
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

func unsupported(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnsupported, fmt.Sprintf(format, args...))
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w (%s)", ErrDamaged, fmt.Sprintf(format, args...))
}
