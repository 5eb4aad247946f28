package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/internal/stage1"
	"github.com/antievilmaid/aem/internal/stage1/config"
	"github.com/antievilmaid/aem/tpm"
)

// stageOneOf is stage 1 as it was built for a target, with a policy that approves of it.
func stageOneOf(l *laptop, x *target, p config.Policy) {
	l.t.Helper()
	x.approve(l)
	told, err := json.Marshal(config.Config{Policy: &p})
	l.must(err)
	description, err := os.ReadFile(x.description)
	l.must(err)
	key, err := os.ReadFile(filepath.Join(x.root, "key"))
	l.must(err)
	l.must(os.MkdirAll(filepath.Join(x.root, filepath.Dir(config.Path)), 0o700))
	for name, b := range map[string][]byte{config.Path: told, config.DescriptionPath: description, config.PolicyKeyPath: key} {
		l.must(os.WriteFile(filepath.Join(x.root, name), b, 0o600))
	}
}

// Stage 1 starts what its policy approves of, and nothing else unless it was built to:
// whatever stands in the way closes the PCRs. Nobody at the console ends it.
func TestStageOneAsksThePolicy(t *testing.T) {
	policy := config.Policy{File: "/policy", Oldest: 1}
	anyway := policy
	anyway.LaunchUnapproved = true
	newer := policy
	newer.Oldest = 2
	another := func(l *laptop, x *target) {
		l.must(os.WriteFile(filepath.Join(x.root, "boot/vmlinuz"), []byte("hers"), 0o600))
	}
	for name, c := range map[string]struct {
		policy  config.Policy
		change  func(*laptop, *target)
		started bool
		want    error  // where it is not
		says    string // of it
	}{
		"approved":                        {policy, func(*laptop, *target) {}, true, nil, ""},
		"another kernel":                  {policy, another, false, launch.ErrNotApproved, "differs in: kernel"},
		"another kernel, launched anyway": {anyway, another, true, nil, ""},
		"an old policy":                   {newer, func(*laptop, *target) {}, false, launch.ErrOldPolicy, "2 is the oldest"},
		"no policy": {policy, func(l *laptop, x *target) {
			l.must(os.Remove(filepath.Join(x.root, "policy")))
		}, false, os.ErrNotExist, "(approval)"},
		"one that she signed": {policy, func(l *laptop, x *target) {
			other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
			l.must(os.WriteFile(filepath.Join(x.root, config.PolicyKeyPath), launch.PublicKeyFile(other.Public().(ed25519.PublicKey)), 0o600))
		}, false, launch.ErrWrongKey, "is demanded"},
		"no key": {policy, func(l *laptop, x *target) {
			l.must(os.Remove(filepath.Join(x.root, config.PolicyKeyPath)))
		}, false, os.ErrNotExist, "(authority)"},
		"nothing told": {policy, func(l *laptop, x *target) {
			l.must(os.Remove(filepath.Join(x.root, config.Path)))
		}, false, os.ErrNotExist, "what stage 1 is to do"},
		"a disk that is not there": {policy, func(l *laptop, x *target) {
			b, err := json.Marshal(config.Config{Policy: &policy, Mounts: []config.Mount{{Disk: "/dev/none", Folder: "/mnt"}}})
			l.must(err)
			l.must(os.WriteFile(filepath.Join(x.root, config.Path), b, 0o600))
		}, false, nil, "mount /dev/none"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() { stage1.Undisturbed()() }) // stage 1 itself never gives signals back
			l := newLaptop(t, tpm.V20)
			x := newTarget(l)
			stageOneOf(l, x, c.policy)
			c.change(l, x)
			before, start := l.pcrs(), x.starter()
			ignored := false
			start.execute = func() error {
				x.executed, ignored = true, signal.Ignored(unix.SIGINT)
				return errors.New("a test starts nothing")
			}
			err := launchStage(x.root, aem.Where{TPM: "swtpm:" + l.emulator.Socket(), Log: l.log()}, start, nil)
			if x.executed != c.started || x.executed && !ignored {
				t.Errorf("started: %t, signals ignored: %t; %v", x.executed, ignored, err)
			}
			if !c.started && (c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("refused with %v", err)
			}
			closed(t, err, before, l.pcrs())
		})
	}
}

// What failed before the launch closes the PCRs as well.
func TestStageOneTellsWhatFailedBefore(t *testing.T) {
	l := newLaptop(t, tpm.V20)
	x := newTarget(l)
	stageOneOf(l, x, config.Policy{File: "/policy"})
	t.Cleanup(func() { stage1.Undisturbed()() })
	before, cause := l.pcrs(), errors.New("no modules")
	err := launchStage(x.root, aem.Where{TPM: "swtpm:" + l.emulator.Socket(), Log: l.log()}, x.starter(), cause)
	if !errors.Is(err, cause) || x.executed || x.loaded != nil {
		t.Errorf("started: %t; %v", x.executed, err)
	}
	closed(t, err, before, l.pcrs())
}

func closed(t *testing.T, err error, before, after tpm.Banks) {
	t.Helper()
	var f *launch.Failure
	if !errors.As(err, &f) || !f.Capped {
		t.Errorf("not capped: %v", err)
	}
	for _, a := range before.Algs() {
		for _, p := range []tpm.PCR{17, 18} {
			if after.Value(a, p).Equal(before.Value(a, p)) {
				t.Errorf("%s PCR %d was not capped", a, p)
			}
		}
	}
}

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
