package doctor

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/drtm/txt"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// Examine judges evidence: one row for each question, always the same ones in the
// same order. now is the day on which a module's age is judged.
func Examine(e *Evidence, now time.Time) []Record {
	x := newExam(e, now)
	records := make([]Record, 0, len(checks))
	for _, c := range checks {
		f := c.judge(x)
		records = append(records, Record{
			Name: c.name, Way: c.way, Required: c.required, Chapter: c.chapter,
			State: f.state, Text: printable(f.text), Advice: printable(f.advice),
		})
	}
	return records
}

// check is a question to the evidence.
type check struct {
	name     string
	way      string // the kind of launch that it is asked for, or empty
	required bool
	chip     bool // it is asked of a TPM
	chapter  string
	run      func(*exam) finding
}

// judge answers the question, or says why it does not arise.
func (c *check) judge(x *exam) finding {
	switch {
	case c.way != "" && x.platform != 0 && c.way != way(x.platform):
		return notApplicable("this CPU launches by %s", x.platform)
	case c.chip && x.TPM == nil:
		return unknown(rootAdvice, "the TPM was not read: %s", x.why(fileTPM))
	case c.chip && x.TPM.Absent:
		return notApplicable("there is no TPM")
	}
	return c.run(x)
}

// rootAdvice is for what only root may read.
const rootAdvice = "run this as root"

// finding is the answer to a check.
type finding struct {
	state        State
	text, advice string
}

func good(format string, args ...any) finding {
	return finding{Good, fmt.Sprintf(format, args...), ""}
}

func notApplicable(format string, args ...any) finding {
	return finding{NotApplicable, fmt.Sprintf(format, args...), ""}
}

func bad(advice, format string, args ...any) finding {
	return finding{Bad, fmt.Sprintf(format, args...), advice}
}

func warning(advice, format string, args ...any) finding {
	return finding{Warning, fmt.Sprintf(format, args...), advice}
}

func unknown(advice, format string, args ...any) finding {
	return finding{Unknown, fmt.Sprintf(format, args...), advice}
}

// exam is evidence taken apart once for all rows.
type exam struct {
	*Evidence
	now        time.Time
	noFirmware bool          // nothing was read of what firmware and kernel say
	platform   drtm.Platform // zero where it is not known

	regs    *txt.Registers // nil where they could not be read
	regsErr error          // why, where there is an image of them
	heap    *txt.Heap      // never nil
	heapErr error
	banks   tpm.Banks
	events  *eventlog.Log // nil where there is none
	logErr  error
	launch  drtm.Launch
	sinit   []foundModule
	loaders []foundLoader
}

func newExam(e *Evidence, now time.Time) *exam {
	x := &exam{Evidence: e, now: now, platform: e.platform(), heap: &txt.Heap{}}
	if e.Firmware == nil {
		copied := *e
		copied.Firmware = &Firmware{}
		x.Evidence, x.noFirmware = &copied, true
	}
	if e.Registers != nil {
		x.regs, x.regsErr = txt.ParseRegisters(e.Registers)
		if x.regs != nil && uint16(x.regs.DIDVID) == 0 {
			// Some machines give zeros where nothing is decoded.
			x.regs, x.regsErr = nil, txt.ErrAbsent
		}
	}
	if x.platform == 0 && x.regs != nil {
		x.platform = drtm.TXT
	}
	if e.Heap != nil {
		x.heap, x.heapErr = txt.ParseHeap(e.Heap)
	}
	if e.Log != nil {
		x.events, x.logErr = eventlog.Parse(e.Log)
	}
	x.banks = e.TPM.banks()
	x.launch = drtm.Check(x.events, x.banks)
	if x.launch.State == drtm.Verified && x.logErr != nil {
		// What could be read explains the PCRs; what follows it is no event.
		x.launch.State, x.launch.Reason = drtm.Unproven, x.logErr.Error()
	}
	x.sortModules()
	return x
}

// launched reports whether the TXT registers say that this boot was launched.
func (x *exam) launched() bool { return x.regs != nil && x.regs.Launched() }

// absentRegisters reports whether the machine does not decode the TXT registers.
func (x *exam) absentRegisters() bool { return errors.Is(x.regsErr, txt.ErrAbsent) }

// whole reports whether the registers are all there, not just those that Linux shows.
func (x *exam) whole() bool { return x.regs != nil && x.Firmware.RegistersBy != registersByKernel }

// printable is text with everything escaped that could do something to a terminal, or
// hide what stands beside it. Foreign text reaches rows in many places; it is made
// harmless in this one.
func printable(s string) string {
	const most = 1000
	var b strings.Builder
	for _, c := range s {
		switch {
		case b.Len() >= most:
			return b.String() + "..."
		case c >= ' ' && c <= '~':
			b.WriteRune(c)
		case c <= 0xff:
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			fmt.Fprintf(&b, `\u{%x}`, c)
		}
	}
	return b.String()
}
