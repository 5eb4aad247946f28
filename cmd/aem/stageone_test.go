package main

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// terminal is a console on which a person types these lines.
type terminal struct {
	io.Reader
	bytes.Buffer
}

func (t *terminal) Read(b []byte) (int, error) { return t.Reader.Read(b) }

func TestRefusalWaitsForAChoice(t *testing.T) {
	for typed, want := range map[string]string{
		"off\n": switchOff, " restart \n": startOver, "\nsh\nyes\ncontinue\nrestart\noff\n": startOver,
	} {
		console := &terminal{Reader: strings.NewReader(typed)}
		if got := refuse(console, errors.New("the cause\nand more"), nil); got != want {
			t.Errorf("%q was taken for %q", typed, got)
		}
		if !strings.Contains(console.String(), "the cause\n  and more\n") {
			t.Errorf("the person saw %q", console.String())
		}
	}
}

// Where nobody is there to type, the machine does not stay on.
func TestRefusalEnds(t *testing.T) {
	late := make(chan time.Time)
	close(late)
	if got := refuse(&terminal{Reader: strings.NewReader("")}, errors.New("the cause"), late); got != switchOff {
		t.Errorf("time had %q chosen", got)
	}
}
