package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// chapter is one boot of the story.
type chapter struct {
	title  string // what was done to the machine
	name   string // of the screenshot
	change func(m *machine, p *parts) error
	// screen is a pattern that the screen must come to show, and exit the exit
	// code of aem unseal. outcome says it for the table.
	screen  string
	exit    string
	outcome string
	// act is what the owner does once the screen is there.
	act func(ctx context.Context, b *boot) error
	// cut says that the power fails right after that.
	cut bool
}

// enter is the owner's answer: yes to a proof, switch off to a refusal.
func enter(_ context.Context, b *boot) error { return b.Press("ret") }

const (
	shownProof   = `IS THIS YOUR SECRET\?[\s\S]*` + sentence
	shownRefusal = `DID NOT PROVE ITSELF[\s\S]*`
)

// alone is the story of a launch that starts the system itself.
var alone = tale{build: buildAlone, story: []chapter{
	{
		title: "first boot", name: "1-first-boot", screen: `FIRST BOOT[\s\S]*nothing has been sealed`, exit: "0",
		outcome: "\"first boot\"; sealed, then the power fails", act: sealOnFirstDay, cut: true,
	},
	{
		title: "the same machine again", name: "2-proof", screen: shownProof, exit: "0",
		outcome: "the sentence appears, the boot goes on", act: enter,
	},
	{
		title: "one byte of the initramfs differs", name: "3-initramfs", screen: shownRefusal + `\* initramfs\s`, exit: "4",
		outcome: "refused: initramfs changed", act: enter,
		change: func(m *machine, p *parts) error {
			p.initrd = filepath.Join(m.dir, "evil.img")
			return changeByte(m.good.initrd, p.initrd, "made by its owner", "mads by its owner")
		},
	},
	{
		title: "another kernel command line", name: "4-command-line", screen: shownRefusal + `\* kernel command line`, exit: "4",
		outcome: "refused: kernel command line changed", act: enter,
		change: func(_ *machine, p *parts) error {
			p.cmdline += " init=/bin/sh"
			return nil
		},
	},
	{
		title: "another launched image", name: "5-launched-image", screen: shownRefusal + `\* (Secure|SINIT|launch)`, exit: "4",
		outcome: "refused: launched image changed", act: enter,
		change: func(m *machine, p *parts) error {
			p.loader = filepath.Join(m.dir, "evil-loader")
			b, err := os.ReadFile(m.good.loader)
			if err != nil {
				return err
			}
			b[len(b)/4] ^= 1
			return os.WriteFile(p.loader, b, 0o644)
		},
	},
	{
		title: "no dynamic launch at all", name: "6-no-launch", screen: shownRefusal + `was not a dynamic launch`, exit: "4",
		outcome: "refused: not launched", act: enter,
		change: func(_ *machine, p *parts) error {
			p.launch = false
			return nil
		},
	},
	{
		title: "the original again", name: "7-proof-again", screen: shownProof, exit: "0",
		outcome: "the sentence appears", act: enter,
	},
}}

// changeByte copies a file with one byte of it changed.
func changeByte(source, target, from, to string) error {
	b, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	evil, err := changed(b, from, to)
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(source), err)
	}
	return os.WriteFile(target, evil, 0o644)
}

// changed is a copy with one byte changed: from and to differ in one byte, and from
// occurs once.
func changed(b []byte, from, to string) ([]byte, error) {
	if n := bytes.Count(b, []byte(from)); n != 1 {
		return nil, fmt.Errorf("%q occurs %d times, not once", from, n)
	}
	evil := bytes.Replace(b, []byte(from), []byte(to), 1)
	if len(b) != len(evil) {
		return nil, fmt.Errorf("%d bytes became %d", len(b), len(evil))
	}
	differ := 0
	for i := range b {
		if b[i] != evil[i] {
			differ++
		}
	}
	if differ != 1 {
		return nil, fmt.Errorf("%d bytes were changed, not one", differ)
	}
	return evil, nil
}

// sealOnFirstDay goes on from the notice, and types the sentence where it is asked for.
func sealOnFirstDay(ctx context.Context, b *boot) error {
	if err := b.Press("ret"); err != nil {
		return err
	}
	if _, err := b.Expect(ctx, `SYSTEM exit 0 /bin/aem-setup init`); err != nil {
		return err
	}
	if _, err := b.ExpectScreen(ctx, `Your sentence:`); err != nil {
		return err
	}
	if err := b.SendKeys(sentence + "\n"); err != nil {
		return err
	}
	_, err := b.Expect(ctx, `SYSTEM exit 0 /bin/aem-setup seal`)
	return err
}

// result is how a chapter went.
type result struct {
	chapter chapter
	took    time.Duration
	err     error
}

// tell plays a chapter and returns once the machine is off.
func (m *machine) tell(ctx context.Context, c chapter) error {
	p := m.good
	if c.change != nil {
		if err := c.change(m, &p); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	b, err := m.boot(ctx, p)
	if err != nil {
		return err
	}
	defer b.end()
	if _, err := b.ExpectScreen(ctx, c.screen); err != nil {
		return fmt.Errorf("%w; drtmsim said: %s", err, b.said.Bytes())
	}
	if err := b.shot(c.name); err != nil {
		return err
	}
	if err := c.act(ctx, b); err != nil {
		return err
	}
	want := "GUEST exit " + c.exit + " /bin/aem unseal"
	if c.cut { // as end cuts the power, nothing that was only in the guest's memory reaches the disk
		if !bytes.Contains(b.Transcript(), []byte(want)) {
			_, err = b.Expect(ctx, want)
		}
		return err
	}
	exits, err := b.Expect(ctx, `GUEST end|GUEST broken`)
	if err != nil {
		return err
	}
	if strings.Contains(exits[0], "broken") {
		return fmt.Errorf("the guest's script broke:\n%s", b.Transcript())
	}
	if !bytes.Contains(b.Transcript(), []byte(want)) {
		return fmt.Errorf("aem unseal did not exit with %s:\n%s", c.exit, b.Transcript())
	}
	return b.Wait(ctx)
}
