package debian

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// passphrasePrompt is cryptsetup's in the one initramfs, systemd's in the other.
const passphrasePrompt = `(?:Please unlock disk|Please enter passphrase for disk) ([^\s:]+)[^:]*:`

// ExpectPassphrasePrompt waits for the prompt of a LUKS volume's passphrase, and
// returns the volume's name in crypttab, root or home.
func (m *Machine) ExpectPassphrasePrompt(ctx context.Context) (string, error) {
	g, err := m.Expect(ctx, passphrasePrompt)
	if err != nil {
		return "", err
	}
	return g[1], nil
}

// reaction is how long a person takes from seeing a prompt to the first key. systemd
// prints its prompt before it switches the echo off, and has done both by then.
const reaction = 300 * time.Millisecond

// Unlock waits for the passphrase prompt and types the passphrase, for a second
// volume too. dracut asks once for both where they have the same. What comes of the
// last one is not waited for.
func (m *Machine) Unlock(ctx context.Context, passphrase string) error {
	if _, err := m.ExpectPassphrasePrompt(ctx); err != nil {
		return err
	}
	time.Sleep(reaction)
	if err := m.Type(passphrase + "\r"); err != nil || !m.variant.Two {
		return err
	}
	g, err := m.Expect(ctx, passphrasePrompt+`|login: `)
	if err != nil {
		return err
	}
	if m.greeted = g[1] == ""; m.greeted {
		return nil
	}
	time.Sleep(reaction)
	return m.Type(passphrase + "\r")
}

// ErrLogin is wrapped where the machine doesn't let the person in.
var ErrLogin = errors.New("the login was refused")

// Login waits for the login prompt and logs in. It then prepares the shell for
// [Machine.Run]: without echo, prompt, colours and the kernel's messages.
func (m *Machine) Login(ctx context.Context, user, password string) error {
	if !m.greeted {
		if _, err := m.Expect(ctx, `login: `); err != nil {
			return err
		}
	}
	m.greeted = false
	if err := m.Type(user + "\r"); err != nil {
		return err
	}
	if _, err := m.Expect(ctx, `Password: `); err != nil {
		return err
	}
	if err := m.Type(password + "\r"); err != nil {
		return err
	}
	g, err := m.Expect(ctx, `(Login incorrect)|\w@debian:[^\n]*[#$] `)
	if err != nil {
		return err
	}
	if g[1] != "" {
		return fmt.Errorf("%w: the password of %s is wrong", ErrLogin, user)
	}
	// dash has no line editor, so nothing comes back but what commands print. bash
	// would eat what is typed before it has gone: so its end is waited for.
	if err := m.Type(`exec env TERM=dumb PS1= PS2= sh -c 'stty -echo; dmesg -n 1; echo READY"-"$$; exec sh'` + "\r"); err != nil {
		return err
	}
	_, err = m.Expect(ctx, `READY-\d+\r?\n`)
	return err
}

// longestLine is what a terminal takes before Enter (termios(3), "Canonical and
// noncanonical mode").
const longestLine = 4095

// Run runs shell commands in a shell of their own, and returns what they printed and
// their exit status. They have the serial line as their terminal.
func (m *Machine) Run(ctx context.Context, commands string) (output string, exit int, err error) {
	if err := m.Start(commands); err != nil {
		return "", 0, err
	}
	return m.Finish(ctx)
}

// Start types shell commands and comes back at once: for those that talk with a
// person, by Expect and Type. [Machine.Finish] must follow.
func (m *Machine) Start(commands string) error {
	m.commands++
	// What is typed must not look like what is waited for, in case it is echoed.
	typed := fmt.Sprintf("echo BEGIN''-%d; sh -c %s; echo END''-%d-$?\n", m.commands, quote(commands), m.commands)
	for line := range strings.Lines(typed) {
		if len(line) > longestLine {
			return fmt.Errorf("a line of %d bytes can't be typed on a terminal; CopyIn a script", len(line))
		}
	}
	return m.Type(strings.ReplaceAll(typed, "\n", "\r"))
}

// Finish waits for the end of what Start has started. The output is what no Expect
// has passed.
func (m *Machine) Finish(ctx context.Context) (output string, exit int, err error) {
	g, err := m.Expect(ctx, fmt.Sprintf(`(?s)^(.*?)END-%d-(\d+)\r?\n`, m.commands))
	if err != nil {
		return "", 0, err
	}
	output = strings.ReplaceAll(g[1], "\r\n", "\n")
	if _, after, ok := strings.Cut(output, fmt.Sprintf("BEGIN-%d\n", m.commands)); ok {
		output = after
	}
	exit, err = strconv.Atoi(g[2])
	return output, exit, err
}
