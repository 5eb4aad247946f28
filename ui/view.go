package ui

import (
	"context"
	"time"
)

// Proof is the screen on which a machine proves itself.
type Proof struct {
	// Secret is what the owner entrusted, up to 4 KiB of text.
	Secret []byte
	// Code, if not nil, gives a one-time code to show in place of the secret, and
	// how long it stays valid; or an error, and how long it lasts. It is called each
	// time the screen is drawn, by one goroutine at a time, and not after ShowProof
	// returned.
	Code     func(now time.Time) (code string, left time.Duration, err error)
	Phone    string // under which name the phone has the code
	Clock    string // why the machine's clock is not believed; empty where it is
	Grade    string // what the proof rests on
	Weak     string // why it is weaker than it could be; empty where it is not
	Identity string // the TPM in words
	Medium   string
	Time     time.Time
	Took     time.Duration
}

// Refusal is the screen of a machine that did not prove itself.
type Refusal struct {
	Title   string
	Cause   string // a sentence
	Detail  string // for somebody who knows the terms
	Changes []ChangeView
	Hint    string // what the owner can do
	Code    int    // the program's exit code
}

// ChangeView is a component that is not as approved. One of the digests is empty
// where it is new or gone.
type ChangeView struct{ What, Before, After string }

// Notice is a screen that is read and left.
type Notice struct{ Title, Text, Hint string }

// Question asks for a line of text.
type Question struct {
	Title, Prompt, Hint string
	Error               string // why the last answer was not taken
	Secret              bool   // shown as asterisks
	MaxLen              int    // in bytes; zero stands for 256
}

// Answer is a decision. The zero Answer is never a yes.
type Answer uint8

// The answers.
const (
	Rejected         Answer = iota // the secret is not the owner's
	Confirmed                      // the secret is the owner's
	PowerOff                       // switch off
	ContinueUnproven               // boot on without proof; the word for it was typed
)

// UnprovenWord is what has to be typed to boot on without proof.
const UnprovenWord = "UNPROVEN"

// Screen shows views one after the other. An error means that there is no answer:
// the terminal is gone, or the context ended.
type Screen interface {
	// ShowProof returns Confirmed or Rejected.
	ShowProof(context.Context, Proof) (Answer, error)
	// ShowRefusal returns PowerOff or ContinueUnproven.
	ShowRefusal(context.Context, Refusal) (Answer, error)
	// ShowNotice returns when the notice was acknowledged.
	ShowNotice(context.Context, Notice) error
	// Ask returns what was typed; the caller wipes it. Escape gives an empty answer.
	Ask(context.Context, Question) ([]byte, error)
	// Progress says what takes time.
	Progress(text string)
	// Close clears the terminal and gives it back.
	Close() error
}
