package aem

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm/device"
	"github.com/antievilmaid/aem/tpm12"
)

// Cause is why a machine did not prove itself.
type Cause string

// The causes. Their texts are stable: they stand in the output of --json.
const (
	CauseNoTPM        Cause = "no-tpm"
	CauseSwitchedOff  Cause = "tpm-switched-off"
	CauseFirstBoot    Cause = "first-boot"
	CauseNotLaunched  Cause = "not-launched"
	CauseLogEmpty     Cause = "log-empty"
	CauseLogUnproven  Cause = "log-unproven"
	CauseChanged      Cause = "changed"
	CauseAlready      Cause = "already-proved"
	CauseTried        Cause = "tried-before"
	CauseStale        Cause = "stale-medium"
	CausePIN          Cause = "wrong-pin"
	CauseLocked       Cause = "locked-out"
	CauseOtherTPM     Cause = "other-tpm"
	CauseCleared      Cause = "tpm-cleared"
	CauseOtherFamily  Cause = "other-tpm-family"
	CauseDamaged      Cause = "record-damaged"
	CauseRecordGone   Cause = "record-missing"
	CauseNoMedium     Cause = "no-medium"
	CauseNoDisk       Cause = "disk-missing"
	CauseRejected     Cause = "secret-not-recognised"
	CauseNotAvailable Cause = "error"
)

// causeInfo is what a person is told, and what a script gets.
type causeInfo struct {
	exit     Exit
	sentence string
	advice   string
}

var causes = map[Cause]causeInfo{
	CauseNoTPM: {ExitNotPossible,
		"This machine shows no TPM, so it can prove nothing.",
		"If it had one yesterday, do not type your passphrase. Look in the firmware's setup whether the TPM is switched off."},
	CauseSwitchedOff: {ExitNotPossible,
		"The TPM was switched off for this boot, so this machine can prove nothing.",
		"Switch the machine off and on again: some firmware does this where the TPM answers late. If it stays so, look in the firmware's setup, and do not type your passphrase."},
	CauseFirstBoot: {ExitOK,
		"First boot: nothing has been sealed on this medium yet.",
		"Boot on, and seal your secret with aem-setup. If you had sealed one before, somebody removed it: do not type your passphrase."},
	CauseNotLaunched: {ExitMeasurements,
		"This boot was not a dynamic launch, so nothing vouches for what is running.",
		"Choose the boot entry with the measured launch. If you did, somebody changed the boot loader or the firmware's setup."},
	CauseLogEmpty: {ExitMeasurements,
		"The TPM was launched, but the launch left no log, so nobody can say what was launched.",
		"Boot again. If it stays so, the boot loader or what it launched was exchanged."},
	CauseLogUnproven: {ExitMeasurements,
		"The launch log does not agree with the TPM, so what it says is not true.",
		"Do not type your passphrase. Keep the machine as it is and have the log looked at: aem log."},
	CauseChanged: {ExitMeasurements,
		"Something that was measured in this boot is not what you approved.",
		"If you updated it yourself, approve it from a system you trust. If not, do not type your passphrase."},
	CauseAlready: {ExitMeasurements,
		"This machine has proved itself already in this boot; it does so once.",
		"To see the secret again, restart. If you have not seen it in this boot, somebody else has."},
	CauseTried: {ExitMeasurements,
		"A proof was tried in this boot before, and nothing opened; there is one try in each boot.",
		"Restart, with your medium plugged in. The message below says what the first try came to."},
	CauseStale: {ExitStale,
		"This medium was superseded: a newer one has taken its place.",
		"Use the newest medium. If this is the newest one you have, somebody else has a newer one."},
	CausePIN: {ExitAuth,
		"The PIN is wrong.",
		"Try again later. Each wrong PIN brings the TPM nearer to refusing all of them for a while."},
	CauseLocked: {ExitLocked,
		"The TPM refuses PINs for a while, after too many wrong ones.",
		"Wait with the machine switched on. If it was not you who typed them, somebody tried."},
	CauseOtherTPM: {ExitOtherTPM,
		"This is not the TPM that your secret was sealed with.",
		"If the main board was not exchanged with your knowledge, this may be another machine: do not type your passphrase."},
	CauseCleared: {ExitOtherTPM,
		"The TPM is the right one, but it was cleared since your secret was sealed.",
		"If you did not clear it, somebody else was in the firmware's setup: do not type your passphrase."},
	CauseOtherFamily: {ExitOtherTPM,
		"The record was sealed with a TPM of the other family.",
		"Some firmwares can switch between TPM 1.2 and 2.0. If you did not, this may be another machine."},
	CauseDamaged: {ExitDamaged,
		"The record on this medium is damaged.",
		"Use another medium, or seal again from a system you trust. Somebody may have changed it."},
	CauseRecordGone: {ExitDamaged,
		"A secret was sealed with this TPM, but this medium holds no record.",
		"Use the medium that you sealed. If this is it, somebody removed the record: do not type your passphrase."},
	CauseNoMedium: {ExitDamaged,
		"The medium with the sealed record can't be read.",
		"Plug it in and restart. Without it nothing proves this machine: do not type your passphrase."},
	CauseNoDisk: {ExitMeasurements,
		"An encrypted disk that belongs to this machine is not there, or is there twice, or its header can't be read.",
		"Do not type your passphrase: a disk that asks for it may not be yours. Look whether a disk was taken out or exchanged."},
	CauseRejected: {ExitError,
		"You said that the secret shown is not yours.",
		"Then this may not be your machine, or it may be an imitation: do not type your passphrase."},
	CauseNotAvailable: {ExitError,
		"The proof could not be made because something failed.",
		"Boot again. If it stays so, do not type your passphrase and look at the message below."},
}

// Causes are all of them, sorted.
func Causes() []Cause { return slices.Sorted(maps.Keys(causes)) }

// Refusal says that the machine did not prove itself, and why. It is an error,
// except that a first boot is nothing bad.
type Refusal struct {
	Cause Cause
	// Detail is what was found, for somebody who knows the terms. It never holds
	// a secret.
	Detail string
	// Changes are the components that differ from the approved state which is
	// nearest to this boot. They come from a log that a changed machine could have
	// forged, so they are a hint.
	Changes []Change
	// Guesses is the state of the TPM's defence, where a PIN was the cause.
	Guesses *Guesses
	err     error
}

// Change is one component that is not as approved. Before and After are digests
// in hexadecimal; one of them is empty where the component is new or gone.
type Change struct {
	What   string `json:"what"`
	Before string `json:"before,omitempty"`
	After  string `json:"after,omitempty"`
	// Explanation is there where the next boot was compared before it took place.
	Explanation *Explanation `json:"explanation,omitempty"`
}

// Sentence says the cause to the owner.
func (r *Refusal) Sentence() string {
	s := causes[r.Cause].sentence
	if r.Guesses != nil {
		s += " " + r.Guesses.String()
	}
	return s
}

// Advice says what the owner can do.
func (r *Refusal) Advice() string { return causes[r.Cause].advice }

// Exit is the program's exit code.
func (r *Refusal) Exit() Exit { return causes[r.Cause].exit }

// Error is the sentence with the detail.
func (r *Refusal) Error() string {
	if r.Detail == "" {
		return r.Sentence()
	}
	return r.Sentence() + " (" + r.Detail + ")"
}

// Unwrap is the error that led here, if there was one.
func (r *Refusal) Unwrap() error { return r.err }

// Refuse makes a refusal of an error that kept a machine from proving itself.
func Refuse(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	for _, e := range []struct {
		err   error
		cause Cause
	}{
		{device.ErrNoTPM, CauseNoTPM},
		{tpm12.ErrDeactivated, CauseSwitchedOff},
		{tpm12.ErrDisabled, CauseSwitchedOff},
		{ErrNoMedium, CauseNoMedium},
		{ErrDisk, CauseNoDisk},
		{seal.ErrOtherFamily, CauseOtherFamily},
		{seal.ErrCleared, CauseCleared},
		{seal.ErrOtherTPM, CauseOtherTPM},
		{seal.ErrStale, CauseStale},
		{seal.ErrLockout, CauseLocked},
		{seal.ErrAuth, CausePIN},
		{seal.ErrDamaged, CauseDamaged},
		{seal.ErrMeasurements, CauseChanged},
	} {
		if errors.Is(err, e.err) {
			return &Refusal{Cause: e.cause, Detail: err.Error(), err: err}
		}
	}
	return &Refusal{Cause: CauseNotAvailable, Detail: err.Error(), err: err}
}

// ExitOf is the exit code for an error of this package's use cases.
func ExitOf(err error) Exit {
	var r *Refusal
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &r):
		return r.Exit()
	case errors.Is(err, seal.ErrCredential):
		return ExitAuth
	case errors.Is(err, ErrNotPossible):
		return ExitNotPossible
	}
	return Refuse(err).Exit()
}

// ErrNotPossible says that this machine can't do what was asked, now or ever.
var ErrNotPossible = errors.New("not possible on this machine")

func notPossible(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrNotPossible, fmt.Errorf(format, args...))
}
