// Package livelog finds the log of this machine's launch.
//
// There is no one place for it. Linux shows the log of its own secure launch as a
// file, OpenXT's kernel does so for Xen's, and everywhere else it lies in memory
// that the boot loader set aside, at an address that stands in one of several
// tables: the TXT heap, the secure launch resource table (SLRT), or a line that Xen
// printed while it started. So the package asks each in turn, returns every log
// that it finds with its source, and says of each other source why it gave none.
//
// All of this is hearsay. Tables and logs lie in memory that somebody else had
// before, so every size and address is checked before anything is read, and no byte
// is read that the source does not claim. Whether a log is true is for the TPM to
// say, when the log is replayed.
package livelog

import (
	"fmt"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/physmem"
	"github.com/antievilmaid/aem/tpm"
)

// MaxLog bounds a log, in bytes: the areas on machines have 8 to 256 KiB.
const MaxLog = 4 << 20

// Source is a kind of place in which a log is found.
type Source string

// The sources, best first: the log that the stage before this one continued, since the
// others end where that one began; a kernel's own account, then a table that names the
// memory, then a printed line, then an emulation. The firmware's log is of another
// kind: it tells of the static boot, and never of a launch.
const (
	Stage1    Source = "aem launch"
	Linux     Source = "Linux"
	OpenXT    Source = "OpenXT"
	TXTHeap   Source = "TXT heap"
	TXTSLRT   Source = "SLRT named in the TXT heap"
	SLBSLRT   Source = "SLRT in the secure loader block"
	XenRing   Source = "Xen's messages"
	Simulator Source = "drtmsim's hand-over"
	Firmware  Source = "firmware"
)

// Machine is where to look. The zero Machine is this machine.
type Machine struct {
	// Root is the folder that holds sys, proc and dev; / where it is empty.
	Root string
	// Memory is the machine's physical memory; nil opens dev/mem when it is needed.
	Memory physmem.Memory
	// XenRing returns Xen's messages since its start, as "xl dmesg" prints them; nil
	// runs that program, where the machine runs under Xen.
	XenRing func() ([]byte, error)
}

// Found is a log.
type Found struct {
	Source    Source
	Name      string // of the source for a person, such as "TXT heap, element 8, at 0xa87e4000"
	Static    bool   // the firmware's log of the static boot
	Simulated bool   // from an emulated launch, which protects nobody
	// Bytes are what the source declares as the log, neither more nor less; for
	// package eventlog to parse. They are not checked beyond looking like a log.
	Bytes   []byte
	Address uint64  // physical, of the first byte; zero for files
	Alg     tpm.Alg // of a log for one algorithm; zero otherwise
	// Room is how many bytes of the log's memory are left, where a table says so and
	// the log itself does not; see [eventlog.Log.SetRoom].
	Room      int
	RoomKnown bool
}

// Skipped is a source that gave no log.
type Skipped struct {
	Source Source
	Name   string // as in Found, as far as it got
	Reason string
	// Absent says that this machine does not have the source, as most machines
	// lack most of them. It matters only where none gave a log.
	Absent bool
}

// Find looks in all sources. The launch's logs and the firmware's come best first;
// what gave none is named with the reason.
func Find(m Machine) (launch, static []Found, skipped []Skipped) {
	s := newSearch(m)
	defer s.close()
	s.stage1()
	s.linux()
	s.openXT()
	s.txt()
	s.slb()
	s.xen()
	s.simulator()
	s.firmware()
	for _, f := range s.found {
		if f.Static {
			static = append(static, f)
		} else {
			launch = append(launch, f)
		}
	}
	return launch, static, s.skipped
}

// search is one look at a machine.
type search struct {
	machine Machine
	memory  memory
	ring    ring
	found   []Found
	skipped []Skipped
}

func newSearch(m Machine) *search {
	if m.Root == "" {
		m.Root = "/"
	}
	return &search{machine: m}
}

// skip notes that a source, which is there, gave no log.
func (s *search) skip(source Source, name string, err error) {
	s.skipped = append(s.skipped, Skipped{Source: source, Name: name, Reason: err.Error()})
}

// absent notes that the machine does not have a source.
func (s *search) absent(source Source, name, reason string) {
	s.skipped = append(s.skipped, Skipped{Source: source, Name: name, Reason: reason, Absent: true})
}

// add takes a log if it looks like one. A damaged log is taken: what can be read of
// it may say what happened.
func (s *search) add(f Found) {
	if err := check(f.Bytes); err != nil {
		s.skip(f.Source, f.Name, err)
		return
	}
	s.found = append(s.found, f)
}

// check refuses bytes that hold no event log at all: a pointer that leads elsewhere,
// memory that was cleared, or zeros that the kernel shows in place of memory.
func check(b []byte) error {
	for _, fill := range []byte{0, 0xff} {
		if holdsOnly(b, fill) {
			return fmt.Errorf("its %d bytes all read as %#02x: the log was cleared, or the kernel does not show it", len(b), fill)
		}
	}
	log, err := eventlog.Parse(b)
	if err != nil && (log == nil || len(log.Events) == 0) {
		return fmt.Errorf("what lies there is no event log: %w", err)
	}
	return nil
}

func holdsOnly(b []byte, fill byte) bool {
	for _, c := range b {
		if c != fill {
			return false
		}
	}
	return true
}
