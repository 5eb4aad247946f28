package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"time"
)

// ErrPanic is wrapped where the guest's kernel panicked.
var ErrPanic = errors.New("the guest's kernel panicked")

// ErrEnded is wrapped where the guest ended before it printed what was waited for.
var ErrEnded = errors.New("the guest ended")

// patience bounds every wait whose context has no deadline. It is long enough
// for a Debian that boots under emulation on a busy machine.
const patience = 5 * time.Minute

// console keeps everything that a guest prints on its serial line.
type console struct {
	conn net.Conn
	done chan struct{} // closed when nothing more will come

	mu     sync.Mutex
	text   []byte
	cursor int           // what Expect has found and passed
	more   chan struct{} // closed, and made anew, when text grows or ends
	ended  bool
	copyTo io.Writer // where it goes besides, or nil
}

func newConsole(conn net.Conn) *console {
	return &console{conn: conn, done: make(chan struct{}), more: make(chan struct{})}
}

// finish closes the line and waits until all that came through it is kept.
func (c *console) finish() {
	c.conn.Close()
	<-c.done
}

// listen reads until the guest's end closes the line.
func (c *console) listen() {
	defer close(c.done)
	buf := make([]byte, 4096)
	for {
		n, err := c.conn.Read(buf)
		c.mu.Lock()
		c.text = append(c.text, buf[:n]...)
		if c.copyTo != nil {
			c.copyTo.Write(buf[:n])
		}
		c.ended = err != nil
		close(c.more)
		c.more = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// copy sends what comes from now on to w also, after what no Expect has passed;
// nil ends that.
func (c *console) copy(w io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.copyTo = w; w != nil {
		w.Write(c.text[c.cursor:])
	}
}

// panicLine is what Linux and Xen print when they give up: the whole line, because
// the reason stands at its end and the serial line is slow.
var panicLine = regexp.MustCompile(`(?m)^.*(Kernel panic - not syncing|Panic on CPU).*\n`)

func (c *console) expect(ctx context.Context, pattern string) ([]string, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	for {
		c.mu.Lock()
		unread, more, ended := c.text[c.cursor:], c.more, c.ended
		if m := re.FindSubmatchIndex(unread); m != nil {
			c.cursor += m[1]
			c.mu.Unlock()
			return groups(unread, m), nil
		}
		c.mu.Unlock()
		if line := panicLine.Find(unread); line != nil {
			return nil, c.explain(fmt.Errorf("%w (%s) before it printed %q", ErrPanic, bytes.TrimSpace(line), pattern))
		}
		if ended {
			return nil, c.explain(fmt.Errorf("%w before it printed %q", ErrEnded, pattern))
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, c.explain(fmt.Errorf("the guest did not print %q: %w", pattern, ctx.Err()))
		}
	}
}

// bounded gives a context that has no deadline one.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, patience)
}

func groups(text []byte, m []int) []string {
	g := make([]string, len(m)/2)
	for i := range g {
		if m[2*i] >= 0 {
			g[i] = string(text[m[2*i]:m[2*i+1]])
		}
	}
	return g
}

// transcript is a copy of all that was printed.
func (c *console) transcript() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return bytes.Clone(c.text)
}

// explain adds the last lines to an error.
func (c *console) explain(err error) error {
	return fmt.Errorf("%w; its last lines:\n%s", err, lastLines(c.transcript(), 40))
}

// escapes are the sequences by which programs move the cursor and set colours.
var escapes = regexp.MustCompile(`\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[()].|.)`)

// lastLines returns the last n lines that are not empty, each indented and with
// nothing in them that a terminal would act on.
func lastLines(text []byte, n int) string {
	var lines []string
	for l := range strings.SplitSeq(escapes.ReplaceAllString(string(text), ""), "\n") {
		l = strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f {
				return -1
			}
			return r
		}, l)
		if strings.TrimSpace(l) != "" {
			lines = append(lines, "    "+l)
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
