package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// play gives the guest's serial console and the keyboard to the person at the
// terminal, boot after boot, and lets that person be the evil maid in between.
func (m *machine) play(ctx context.Context, in *os.File, out io.Writer) error {
	keyboard := bufio.NewReader(in)
	choice := 0 // the story's chapter whose change is made; 0 is none
	for n := 1; ; n++ {
		p := m.good
		if choice > 0 {
			if err := m.story[choice-1].change(m, &p); err != nil {
				return err
			}
		}
		p.cmdline = strings.Replace(p.cmdline, "guest.console=tty1", "guest.console=ttyS0", 1)
		fmt.Fprintf(out, "\nBoot %d. Ctrl-] cuts the power.\n", n)
		if err := m.playBoot(ctx, p, in); err != nil {
			return err
		}
		var err error
		if choice, err = m.ask(keyboard, out); err != nil || choice < 0 {
			return err
		}
	}
}

// playBoot is one boot, up to the guest's end or the person's Ctrl-].
func (m *machine) playBoot(ctx context.Context, p parts, in *os.File) error {
	b, err := m.boot(ctx, p)
	if err != nil {
		return err
	}
	defer b.end()
	if err := b.Attach(in, os.Stdout); err != nil {
		return err
	}
	// A guest that switched itself off takes a moment to write its disks.
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_ = b.Wait(ctx) // one whose power was cut does not end by itself, and that is no error
	return nil
}

// ask asks what to do to the machine: a chapter's number, 0 for nothing, -1 for the end.
func (m *machine) ask(keyboard *bufio.Reader, out io.Writer) (int, error) {
	for {
		fmt.Fprintln(out, "\nThe machine is off. What now?")
		fmt.Fprintln(out, "  Enter  switch it on as it is")
		for i, c := range m.story {
			if c.change != nil {
				fmt.Fprintf(out, "  %d      be the evil maid: %s\n", i+1, c.title)
			}
		}
		fmt.Fprint(out, "  q      end\n> ")
		line, err := keyboard.ReadString('\n')
		if err != nil {
			return -1, nil // the end of the input ends the play
		}
		line = strings.TrimSpace(line)
		n, err := strconv.Atoi(line)
		switch {
		case line == "":
			return 0, nil
		case line == "q":
			return -1, nil
		case err == nil && n >= 1 && n <= len(m.story) && m.story[n-1].change != nil:
			return n, nil
		}
	}
}
