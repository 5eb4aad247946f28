package livelog_test

import (
	"testing"

	"github.com/antievilmaid/aem/drtm/slrt"
	"github.com/antievilmaid/aem/drtm/txt"
	"github.com/antievilmaid/aem/internal/livelog"
)

// hostile is memory that answers at every address, with the attacker's bytes over
// and over, and objects to ranges that nobody should ask for.
type hostile struct {
	t        *testing.T
	contents []byte
	// fixed answers for the pages that it holds.
	fixed map[uint64][]byte
	reads int
}

func (h *hostile) ReadAt(b []byte, address uint64) error {
	if address == 0 || address+uint64(len(b)) < address || len(b) > livelog.MaxLog {
		h.t.Errorf("the memory was asked for %d bytes at %#x", len(b), address)
	}
	if h.reads++; h.reads > 100 {
		h.t.Fatal("the memory was asked more than 100 times")
	}
	source := h.contents
	if page, ok := h.fixed[address]; ok {
		source = page
	}
	for n := 0; n < len(b) && len(source) > 0; {
		n += copy(b[n:], source)
	}
	return nil
}

// sane demands what holds for every machine.
func sane(t *testing.T, launch, static []livelog.Found, skipped []livelog.Skipped) {
	t.Helper()
	for _, f := range append(launch, static...) {
		if len(f.Bytes) == 0 || len(f.Bytes) > livelog.MaxLog || f.Name == "" || f.Static != (f.Source == livelog.Firmware) {
			t.Errorf("found %s: %d bytes, static %t", f.Name, len(f.Bytes), f.Static)
		}
	}
	for _, s := range skipped {
		if s.Reason == "" || s.Name == "" {
			t.Errorf("%+v", s)
		}
		for _, c := range s.Name + s.Reason {
			if c < ' ' {
				t.Errorf("%q could steer a terminal", s.Reason)
			}
		}
	}
}

func FuzzXenRing(f *testing.F) {
	f.Add("(XEN) SLAUNCH: reserving event log (0xc5de4000 - 0xc5dec000)\n(XEN) SLAUNCH: reserving SLB (0xce540000 - 0xce550000)\n")
	f.Add("(XEN) [    0.000000] SLAUNCH: reserving event log [0xc5de4000, 0xc5dec000)\r\n")
	f.Add("(XEN) SLAUNCH: reserving event log range [0x1, 0xffffffffffffffff)")
	f.Add("(XEN) SLAUNCH: reserving SLB (0xffff0000 - 0x100000000)")
	root := f.TempDir()
	contents := agile(f, "a launch")
	f.Fuzz(func(t *testing.T, text string) {
		launch, static, skipped := livelog.Find(livelog.Machine{
			Root:    root,
			Memory:  &hostile{t: t, contents: contents, fixed: map[uint64][]byte{txt.PublicBase: make([]byte, 8)}},
			XenRing: func() ([]byte, error) { return []byte(text), nil },
		})
		sane(t, launch, static, skipped)
	})
}

// FuzzMemory gives the attacker the heap and everything that it leads to.
func FuzzMemory(f *testing.F) {
	m := everything(f)
	f.Add(m.pieces[heapBase], m.pieces[slrtBase], uint64(heapBase), uint64(heapSize))
	f.Add(m.pieces[heapBase], m.pieces[agileLog], uint64(heapBase), uint64(heapSize))
	f.Add(heap(newOSMLE(slrtBase)), table(slrt.Old, slrt.TXT, slrtLog, logRoom), uint64(heapBase), uint64(heapSize))
	f.Add(m.pieces[heapBase], m.pieces[tpm12Log], uint64(1), uint64(heapSize))
	f.Add(loaderBlock(4, table(slrt.Old, slrt.SKINIT, slrtLog, logRoom)), m.pieces[slbBase], uint64(0), ^uint64(0))
	root := f.TempDir()
	f.Fuzz(func(t *testing.T, heap, contents []byte, base, size uint64) {
		if size > 1<<20 && size <= 16<<20 {
			return // allowed, and slow
		}
		launch, static, skipped := livelog.Find(livelog.Machine{
			Root:    root,
			Memory:  &hostile{t: t, contents: contents, fixed: map[uint64][]byte{txt.PublicBase: registers(launched, base, size), base: heap}},
			XenRing: func() ([]byte, error) { return []byte("(XEN) SLAUNCH: reserving SLB (0xce540000 - 0xce550000)\n"), nil },
		})
		sane(t, launch, static, skipped)
	})
}
