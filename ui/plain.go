package ui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// plain prints pages as lines of text, for a terminal that can do no more. No
// escape sequence is written.
type plain struct {
	in  io.Reader
	out io.Writer
}

// NewPlain returns a screen of lines of text.
func NewPlain(in io.Reader, out io.Writer) Screen { return screen{&plain{in, &shared{w: out}}} }

// shared lets the line that changes with the time be written while others are.
type shared struct {
	mu sync.Mutex
	w  io.Writer
}

func (s *shared) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(b)
}

// follow prints a page's live line anew each time it has changed, until it is stopped.
func (p *plain) follow(pg *page, prompt string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			_, left := pg.live(time.Now())
			select {
			case <-ctx.Done():
				return
			case <-time.After(max(left, time.Millisecond)):
			}
			line, _ := pg.live(time.Now())
			fmt.Fprintf(p.out, "\n%s\n%s", cleanLine([]byte(line)), prompt)
		}
	}()
	return func() { cancel(); <-ended }
}

// plainWidth is the width of the lines.
const plainWidth = 76

func (p *plain) print(pg *page) error {
	mark := "="
	if pg.alarm {
		mark = "!"
	}
	rule := strings.Repeat(mark, plainWidth)
	lines := append([]string{"", rule, strings.TrimRight(center(pg.title, plainWidth), " "), rule, ""}, pg.body(plainWidth, time.Now())...)
	lines = append(append(lines, ""), pg.keys...)
	var b bytes.Buffer
	for _, l := range lines {
		fmt.Fprintf(&b, "%s\n", strings.TrimRight(l, " "))
	}
	_, err := p.out.Write(b.Bytes())
	clear(b.Bytes())
	return err
}

// show prints a page and reads lines until one of them is an answer.
func (p *plain) show(ctx context.Context, pg *page) (*sheet, error) {
	s := &sheet{page: pg}
	quiet := false
	if f, ok := p.in.(*os.File); ok {
		if pg.secret && term.IsTerminal(int(f.Fd())) {
			// Before the question can be read: who answers at once is not shown either.
			restore, err := noEcho(int(f.Fd()))
			if err != nil {
				return nil, err
			}
			defer restore()
			quiet = true
		}
		dropTypeAhead(f)
	}
	if err := p.print(pg); err != nil {
		return nil, fmt.Errorf("print %q: %w", pg.title, err)
	}
	prompt := pg.prompt
	if prompt == "" {
		prompt = "> "
	}
	if pg.live != nil {
		defer p.follow(pg, prompt)()
	}
	for !s.done {
		if s.note != "" {
			fmt.Fprintf(p.out, "%s\n", s.note)
		}
		if _, err := io.WriteString(p.out, prompt); err != nil {
			return nil, fmt.Errorf("print %q: %w", pg.title, err)
		}
		line, err := p.readLine(ctx, pg.maxLen)
		if quiet {
			fmt.Fprintln(p.out) // the Enter was not shown, either
		}
		if errors.Is(err, errTooLong) {
			s.note = fmt.Sprintf("That is too long; %d bytes are possible.", pg.maxLen)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the answer to %q: %w", pg.title, err)
		}
		s.typed = line
		s.press(keyEnter)
	}
	return s, nil
}

// errTooLong refuses a line as a whole: half of an answer is none.
var errTooLong = errors.New("the line is too long")

// readLine reads one line of at most limit bytes.
func (p *plain) readLine(ctx context.Context, limit int) ([]byte, error) {
	line := make([]byte, 0, limit)
	long := false
	var one [1]byte
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := p.in.Read(one[:])
		switch {
		case n == 1 && (one[0] == '\n' || one[0] == '\r'):
			if long {
				clear(line)
				return nil, errTooLong
			}
			return line, nil
		case n == 1 && len(line) < limit:
			line = append(line, one[0])
		case n == 1:
			long = true
		case errors.Is(err, io.EOF):
			clear(line)
			return nil, ErrNoAnswer // never an empty answer, which would be a yes
		case err != nil:
			clear(line)
			return nil, err
		}
	}
}

// noEcho switches a terminal's echo off and returns what switches it on again.
func noEcho(fd int) (restore func(), err error) {
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("switch the terminal's echo off: %w", err)
	}
	quiet := *old
	quiet.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &quiet); err != nil {
		return nil, fmt.Errorf("switch the terminal's echo off: %w", err)
	}
	return func() { unix.IoctlSetTermios(fd, unix.TCSETS, old) }, nil
}

func (p *plain) Progress(text string) { fmt.Fprintf(p.out, "%s\n", clean([]byte(text))) }

// Close has nothing to clear: lines of text scroll.
func (p *plain) Close() error { return nil }
