package ui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// ErrNoAnswer says that the terminal went away before there was an answer.
var ErrNoAnswer = errors.New("the terminal gave no answer")

// clearAll moves home, clears the screen and what was scrolled off it.
const clearAll = "\x1b[0m\x1b[H\x1b[2J\x1b[3J"

// fullScreen draws sheets with bubbletea.
type fullScreen struct {
	tty    *os.File
	colour bool
	env    []string
}

// New returns the screen that suits a terminal: the full screen, or lines of text
// where TERM is dumb or tty is no terminal.
func New(tty *os.File) (Screen, error) {
	if !term.IsTerminal(int(tty.Fd())) || os.Getenv("TERM") == "dumb" {
		return NewPlain(tty, tty), nil
	}
	// A serial line knows no size; a program that draws on 0 by 0 draws nothing.
	size, err := unix.IoctlGetWinsize(int(tty.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return nil, fmt.Errorf("learn the terminal's size: %w", err)
	}
	if size.Col == 0 || size.Row == 0 {
		size.Col, size.Row = fallbackW, fallbackH-1
		if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, size); err != nil {
			return nil, fmt.Errorf("give the terminal a size: %w", err)
		}
	}
	env := os.Environ()
	if os.Getenv("TERM") == "" {
		env = append(env, "TERM=linux")
	}
	return screen{&fullScreen{tty: tty, colour: os.Getenv("NO_COLOR") == "", env: env}}, nil
}

// model is a sheet as bubbletea runs it.
type model struct {
	*sheet
	width, height int
	colour        bool
}

type tick time.Time

func (m *model) Init() tea.Cmd { return m.wait() }

// wait asks for the next second on a page that changes with the time.
func (m *model) wait() tea.Cmd {
	if m.page.live == nil {
		return nil
	}
	return tea.Tick(time.Second, func(t time.Time) tea.Msg { return tick(t) })
}

var teaKeys = map[rune]key{
	tea.KeyEnter: keyEnter, tea.KeyKpEnter: keyEnter, tea.KeyBackspace: keyBackspace, tea.KeyEscape: keyEscape,
	tea.KeyUp: keyUp, tea.KeyDown: keyDown, tea.KeyPgUp: keyPageUp, tea.KeyPgDown: keyPageDown,
}

func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tick:
		return m, m.wait()
	case tea.KeyPressMsg:
		switch k := teaKeys[msg.Code]; {
		case k != 0:
			m.press(k)
		case msg.Mod&^tea.ModShift == 0:
			m.typeText(msg.Text)
		}
	case tea.PasteMsg:
		m.typeText(msg.Content)
	}
	if m.done {
		return m, tea.Quit
	}
	return m, nil
}

func (m *model) View() tea.View {
	if m.done {
		return tea.NewView("") // the last frame stays on the terminal until it is cleared
	}
	lines := m.draw(m.width, m.height, time.Now())
	if m.colour {
		lines = paint(lines, m.page.alarm)
	}
	v := tea.NewView(strings.Join(lines, "\n"))
	v.AltScreen = true
	return v
}

// paint colours the frame and the title; what they say does not depend on it.
func paint(lines []string, alarm bool) []string {
	start := "\x1b[1;32m"
	if alarm {
		start = "\x1b[1;37;41m"
	}
	const reset = "\x1b[0m"
	out := make([]string, len(lines))
	for i, l := range lines {
		if i < 2 || i == len(lines)-1 || strings.HasPrefix(l, "+") {
			out[i] = start + l + reset
		} else {
			out[i] = start + l[:1] + reset + l[1:len(l)-1] + start + l[len(l)-1:] + reset
		}
	}
	return out
}

// watched is the terminal, and ends the program when it goes away; bubbletea
// itself would wait for ever.
type watched struct {
	*os.File
	gone func()
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.File.Read(p)
	if err != nil {
		go w.gone() // this is the goroutine that the program's end waits for
	}
	return n, err
}

// show runs a page until it is answered, and returns the sheet with what was
// typed. The terminal is cleared in any case.
func (f *fullScreen) show(ctx context.Context, p *page) (s *sheet, err error) {
	m := &model{sheet: &sheet{page: p}, width: fallbackW, height: fallbackH, colour: f.colour}
	dropTypeAhead(f.tty)
	input := &watched{File: f.tty}
	program := tea.NewProgram(m,
		tea.WithContext(ctx), tea.WithInput(input), tea.WithOutput(f.tty), tea.WithEnvironment(f.env), tea.WithoutSignalHandler())
	input.gone = program.Quit
	_, err = program.Run()
	if err == nil && !m.done {
		err = ErrNoAnswer
	}
	if _, cerr := io.WriteString(f.tty, clearAll); err == nil {
		err = cerr
	}
	if err != nil {
		m.forget()
		return nil, fmt.Errorf("show %q on the terminal: %w", p.title, err)
	}
	return m.sheet, nil
}

// dropTypeAhead forgets keys that were pressed before the page could be read: an
// Enter out of impatience is no answer.
func dropTypeAhead(tty *os.File) {
	// What is no terminal has no such keys, and the call's error says only that.
	_ = unix.IoctlSetInt(int(tty.Fd()), unix.TCFLSH, unix.TCIFLUSH)
}

func (f *fullScreen) Progress(text string) {
	fmt.Fprintf(f.tty, "%s\r\n", clean([]byte(text)))
}

func (f *fullScreen) Close() error {
	if _, err := io.WriteString(f.tty, clearAll); err != nil {
		return fmt.Errorf("clear the terminal: %w", err)
	}
	return nil
}
