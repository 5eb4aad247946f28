package livelog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/antievilmaid/aem/drtm/skl"
	"github.com/antievilmaid/aem/eventlog"
)

// ring are Xen's messages, fetched when they are first needed.
type ring struct {
	fetched bool
	text    []byte
	err     error
}

// errNotXen says that there is no ring to read.
var errNotXen = errors.New("this machine does not run under Xen")

// messages are Xen's messages, bounded.
func (s *search) messages() ([]byte, error) {
	r := &s.ring
	if r.fetched {
		return r.text, r.err
	}
	r.fetched = true
	switch {
	case s.machine.XenRing != nil:
		r.text, r.err = s.machine.XenRing()
	case s.underXen():
		r.text, r.err = runXL()
	default:
		r.err = errNotXen
	}
	// What counts was printed first.
	r.text = r.text[:min(len(r.text), maxRing)]
	return r.text, r.err
}

func (s *search) underXen() bool {
	if b, err := os.ReadFile(s.path("/sys/hypervisor/type")); err == nil {
		return strings.TrimSpace(string(b)) == "xen"
	}
	_, err := os.Stat(s.path("/proc/xen"))
	return err == nil
}

// Limits of xl: the ring has 16 KiB to a few MiB, and reading it takes no time.
const (
	maxRing   = 4 << 20
	xlTimeout = 10 * time.Second
)

// runXL runs the program that reads the ring.
func runXL() ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), xlTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "xl", "dmesg")
	cmd.WaitDelay = time.Second
	out, said := &head{room: maxRing}, &head{room: 200}
	cmd.Stdout, cmd.Stderr = out, said
	err := cmd.Run()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return nil, errors.New("the program xl, which reads them, is not installed here")
	case ctx.Err() != nil:
		return nil, fmt.Errorf("xl dmesg did not end within %s", xlTimeout)
	case err != nil:
		return nil, fmt.Errorf("xl dmesg: %w: %s", err, eventlog.Printable(bytes.TrimSpace(said.b)))
	}
	return out.b, nil
}

// head keeps the beginning of what is written to it, and takes the rest in without
// keeping it, so that the writer does not stand still.
type head struct {
	b    []byte
	room int
}

func (h *head) Write(b []byte) (int, error) {
	n := min(len(b), h.room)
	h.b, h.room = append(h.b, b[:n]...), h.room-n
	return len(b), nil
}

// xen reads the range of the log from the line that Xen prints when it keeps the
// memory from being used. The ring loses its oldest lines, so the line may be gone.
func (s *search) xen() {
	name := string(XenRing)
	r, ok := s.reserved(XenRing, name, "event log")
	if !ok {
		return
	}
	s.addMemory(Found{Source: XenRing, Name: fmt.Sprintf("%s, log at %#x", name, r.start)}, r.start, r.end-r.start)
}

// slb reads the SLRT of an AMD launch, which lies behind the loader in the block
// whose address Xen prints.
func (s *search) slb() {
	name := string(SLBSLRT)
	r, ok := s.reserved(SLBSLRT, name, "SLB")
	if !ok {
		return
	}
	name = fmt.Sprintf("%s at %#x", name, r.start)
	if r.end-r.start != skl.MaxSize || r.start%skl.MaxSize != 0 || r.end > 1<<32 {
		s.skip(SLBSLRT, name, fmt.Errorf("its range is %s by Xen's messages, and such a block has 64 KiB, aligned, below 4 GiB", r))
		return
	}
	b, err := s.read(r.start, skl.MaxSize)
	if err != nil {
		s.skip(SLBSLRT, name, err)
		return
	}
	block, err := skl.Parse(b)
	switch {
	case err != nil:
		s.skip(SLBSLRT, name, err)
	case block.Loader == nil:
		s.skip(SLBSLRT, name, errors.New("the block does not hold the Secure Kernel Loader, and no other's table is known"))
	default:
		// No offset of 16 bits leads out of the block.
		s.logInfo(SLBSLRT, name, b[block.Loader.DataOffset:])
	}
}

// reserved looks for what Xen reserved, and notes why it does not know.
func (s *search) reserved(source Source, name, what string) (span, bool) {
	text, err := s.messages()
	if errors.Is(err, errNotXen) {
		s.absent(source, name, err.Error())
		return span{}, false
	}
	if err != nil {
		s.skip(source, name, err)
		return span{}, false
	}
	r, err := findSpan(text, what)
	if errors.Is(err, errNoLine) {
		s.absent(source, name, err.Error())
		return span{}, false
	}
	if err != nil {
		s.skip(source, name, err)
	}
	return r, err == nil
}

// span is a range of memory; the end is the first address behind it.
type span struct{ start, end uint64 }

func (s span) String() string { return fmt.Sprintf("%#x to %#x", s.start, s.end) }

var errNoLine = errors.New("no line of Xen's messages names it: Xen was not launched, or its first lines were overwritten")

// findSpan reads a line such as
//
//	(XEN) SLAUNCH: reserving event log (0xc5de4000 - 0xc5dec000)
//	(XEN) [    0.000000] SLAUNCH: reserving event log [0xc5de4000, 0xc5dec000)
//
// as Xen's versions print it, both with the end left out. Only the first such line
// counts: Xen prints it before anything else runs, and what runs in dom0 may write
// into the ring. What a guest writes there does not begin with (XEN).
func findSpan(text []byte, what string) (span, error) {
	for line := range bytes.Lines(text) {
		rest, ok := strings.CutPrefix(strings.TrimRight(string(line), "\r\n"), "(XEN) ")
		if !ok {
			continue
		}
		if stamped, found := strings.CutPrefix(rest, "["); found {
			if _, rest, ok = strings.Cut(stamped, "] "); !ok {
				continue
			}
		}
		if rest, ok = strings.CutPrefix(rest, "SLAUNCH: reserving "+what+" "); !ok {
			continue
		}
		return parseSpan(rest)
	}
	return span{}, errNoLine
}

func parseSpan(text string) (span, error) {
	text = strings.TrimPrefix(text, "range ")
	for _, form := range [][2]string{{"(", " - "}, {"[", ", "}} {
		inner, opened := strings.CutPrefix(text, form[0])
		inner, closed := strings.CutSuffix(inner, ")")
		first, second, two := strings.Cut(inner, form[1])
		if !opened || !closed || !two {
			continue
		}
		start, err1 := parseHex(first)
		end, err2 := parseHex(second)
		if err1 != nil || err2 != nil {
			break
		}
		if start == 0 || end <= start {
			return span{}, fmt.Errorf("the range in Xen's message, from %#x to %#x, is none", start, end)
		}
		return span{start, end}, nil
	}
	return span{}, fmt.Errorf("the range in Xen's message has a form that is not known: %s", eventlog.Printable([]byte(text[:min(len(text), 80)])))
}

// parseHex reads 0x and hexadecimal digits, and nothing else that Go takes for a number.
func parseHex(s string) (uint64, error) {
	digits, ok := strings.CutPrefix(s, "0x")
	if !ok {
		return 0, errors.New("no 0x")
	}
	return strconv.ParseUint(digits, 16, 64)
}
