package debian

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// ExpectPassphrasePrompt waits for the prompt of a LUKS volume's passphrase, and
// returns the volume's name in crypttab, root or home.
func (m *Machine) ExpectPassphrasePrompt(ctx context.Context) (string, error) {
	// cryptsetup's askpass in the one initramfs, systemd's in the other.
	g, err := m.Expect(ctx, `(?:Please unlock disk|Please enter passphrase for disk) ([^\s:]+)[^:]*:`)
	if err != nil {
		return "", err
	}
	return g[1], nil
}

// Unlock waits for the passphrase prompt of each volume that the variant has, and
// types the passphrase. It does not wait for what comes of it.
func (m *Machine) Unlock(ctx context.Context, passphrase string) error {
	if _, err := m.ExpectPassphrasePrompt(ctx); err != nil {
		return err
	}
	return m.Type(passphrase + "\r")
}

// Login waits for the login prompt and logs in. It then prepares the shell for
// [Machine.Run]: without echo, prompt, colours and the kernel's messages.
func (m *Machine) Login(ctx context.Context, user, password string) error {
	for _, step := range [][2]string{{`login: `, user}, {`Password: `, password}} {
		if _, err := m.Expect(ctx, step[0]); err != nil {
			return err
		}
		if err := m.Type(step[1] + "\r"); err != nil {
			return err
		}
	}
	g, err := m.Expect(ctx, `(Login incorrect)|\w@debian:[^\n]*[#$] `)
	if err != nil {
		return err
	}
	if g[1] != "" {
		return fmt.Errorf("log in as %s: the password is wrong", user)
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
