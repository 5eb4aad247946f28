package livelog_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/drtm/txt"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/corpus"
	"github.com/antievilmaid/aem/internal/livelog"
	"github.com/antievilmaid/aem/internal/physmem"
)

func TestRegisters(t *testing.T) {
	rec := &recorder{memory: physmem.Image(txt.PublicBase, registers(launched, heapBase, heapSize))}
	r, err := livelog.Registers(livelog.Machine{Root: t.TempDir(), Memory: rec})
	if err != nil || !r.Launched() || r.HeapBase != heapBase || r.HeapSize != heapSize {
		t.Errorf("%+v, %v", r, err)
	}
	if len(rec.asked) != 1 || rec.asked[0] != registersPage {
		t.Errorf("the memory was asked for %+v", rec.asked)
	}
}

func TestMachinesWithoutTXT(t *testing.T) {
	for name, page := range map[string][]byte{
		"ones":  bytes.Repeat([]byte{0xff}, 0x1000),
		"zeros": make([]byte, 0x1000),
	} {
		_, err := livelog.Registers(livelog.Machine{Root: t.TempDir(), Memory: physmem.Image(txt.PublicBase, page)})
		if !errors.Is(err, livelog.ErrNoTXT) || errors.Is(err, txt.ErrAbsent) != (name == "ones") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Another maker's chipset may answer at that address with registers of its own.
func TestOtherMakersAreNotAsked(t *testing.T) {
	for _, vendor := range []string{"AuthenticAMD", "HygonGenuine"} {
		m := newMachine(t)
		m.file(t, "proc/cpuinfo", []byte("processor\t: 0\nvendor_id\t: "+vendor+"\n"))
		rec := &recorder{memory: physmem.Image(txt.PublicBase, registers(launched, heapBase, heapSize))}
		if _, err := livelog.Registers(livelog.Machine{Root: m.root, Memory: rec}); !errors.Is(err, livelog.ErrNoTXT) || len(rec.asked) != 0 {
			t.Errorf("%s: %v; the memory was asked for %+v", vendor, err, rec.asked)
		}
	}
	m := newMachine(t)
	m.file(t, "proc/cpuinfo", []byte("processor\t: 0\nvendor_id\t: GenuineIntel\n"))
	rec := &recorder{memory: physmem.Image(txt.PublicBase, registers(launched, heapBase, heapSize))}
	if _, err := livelog.Registers(livelog.Machine{Root: m.root, Memory: rec}); err != nil {
		t.Errorf("Intel's: %v", err)
	}
}

func TestRegistersThatCannotBeRead(t *testing.T) {
	_, err := livelog.Registers(livelog.Machine{Root: t.TempDir()})
	if !errors.Is(err, os.ErrNotExist) || errors.Is(err, livelog.ErrNoTXT) || !strings.Contains(err.Error(), "TXT registers") {
		t.Errorf("%v", err)
	}
}

// The registers of a real machine that TXT launched, and the heap of another; its
// log's address counts from the heap, so the log stands there as memory of its own.
func TestHeapOfTheCorpus(t *testing.T) {
	const base = 0x1000 // by the capture's first 16 bytes
	capture := corpus.Read(t, "txt/intelsecl-txt_heap_info.bin")
	size := le.Uint64(capture[8:])
	if got := le.Uint64(capture); got != base || uint64(len(capture)) < base+size {
		t.Fatalf("the capture is of %d bytes at %#x", size, got)
	}
	page := corpus.Read(t, "txt/regs-GETAC-UX10G2-20250928-091815.bin")
	const place = 0x9bf10000
	le.PutUint64(page[0x300:], place)
	le.PutUint64(page[0x308:], size)
	m := newMachine(t)
	m.pieces[txt.PublicBase] = page
	m.pieces[place] = capture[base:][:size]
	const address, used = 0x1014c, 0x6ba
	m.pieces[address] = capture[base+address:][:used]
	r := m.find(t)
	got := one(t, r)
	if got.Name != "TXT heap, element 8, at 0x1014c" || len(got.Bytes) != used || got.Address != address {
		t.Errorf("%s: %d bytes at %#x", got.Name, len(got.Bytes), got.Address)
	}
	if l, err := eventlog.Parse(got.Bytes); err != nil || len(l.Events) < 10 || l.Events[0].Type != 0x402 {
		t.Errorf("%v", err)
	}
	if want := (span{address, used}); r.asked[2] != want || len(r.asked) != 3 {
		t.Errorf("the memory was asked for %+v", r.asked)
	}
	// tboot's table for the launched system is no TrenchBoot's.
	for _, s := range r.skipped {
		if s.Source == livelog.TXTSLRT && !s.Absent {
			t.Errorf("%+v", s)
		}
	}
}
