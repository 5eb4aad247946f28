package slrt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/drtm/slrt"
	"github.com/antievilmaid/aem/internal/corpus"
)

var le = binary.LittleEndian

// table writes a table of one of the layouts with all entries of an Intel launch.
func table(l slrt.Layout) []byte {
	var body []byte
	add := func(tag slrt.Tag, b []byte) {
		if l == slrt.Old {
			body = le.AppendUint16(le.AppendUint16(body, uint16(tag)), uint16(4+len(b)))
		} else {
			body = le.AppendUint32(le.AppendUint32(body, uint32(tag)), uint32(8+len(b)))
		}
		body = append(body, b...)
	}
	text := make([]byte, 32)
	copy(text, "Measured MB2 module")
	if l == slrt.Old {
		add(slrt.TagDLInfo, put(uint16(1), uint16(0), uint64(2), uint64(3), uint64(0x1000), uint32(0x2000), uint64(0x3000), uint32(0x4000), uint32(0x10)))
		add(slrt.TagLogInfo, put(uint16(2), uint16(0), uint64(0x7000), uint32(0x8000)))
		add(slrt.TagPolicy, append(put(uint16(1), uint16(1), uint16(17), uint16(8), uint16(1), uint16(0), uint64(0x5000), uint64(99)), text...))
		add(slrt.TagIntelInfo, put(uint64(0x85), uint64(6), uint64(1), uint64(0xa), uint64(0xb), make([]byte, 16*31)))
	} else {
		add(slrt.TagDLInfo, put(uint64(0x2000), uint64(0x1000), uint64(0x4000), uint64(0x3000), uint64(0x10), uint16(1), make([]byte, 6), uint64(2), uint64(3)))
		add(slrt.TagLogInfo, put(uint16(2), uint16(0), uint32(0x8000), uint64(0x7000)))
		add(slrt.TagPolicy, append(put(uint32(0), uint16(1), uint16(1), uint16(17), uint16(8), uint16(1), uint16(0), uint64(99), uint64(0x5000)), text...))
		add(slrt.TagIntelInfo, put(uint64(0x9000), uint64(0x85), uint64(6), uint64(1), uint64(0xa), uint64(0xb), make([]byte, 16*31)))
	}
	add(slrt.TagEnd, nil)
	head := put(uint32(slrt.Magic), uint16(1), uint16(1), uint32(16+len(body)), uint32(0x1000))
	return append(head, body...)
}

func put(values ...any) []byte {
	var b bytes.Buffer
	for _, v := range values {
		binary.Write(&b, le, v)
	}
	return b.Bytes()
}

func TestBothLayouts(t *testing.T) {
	for _, l := range []slrt.Layout{slrt.Old, slrt.New} {
		b := append(table(l), "memory behind the table"...)
		got, err := slrt.Parse(b)
		if err != nil {
			t.Fatalf("%s: %v", l, err)
		}
		if got.Layout != l || got.Architecture != slrt.TXT || len(got.Entries) != 5 {
			t.Errorf("%s: %s, %s, %d entries", l, got.Layout, got.Architecture, len(got.Entries))
		}
		if !bytes.Equal(got.AppendTo(nil), b) {
			t.Errorf("%s: written again it differs", l)
		}
		if diff := cmp.Diff(&slrt.DLInfo{Bootloader: 1, Context: 2, Handler: 3, DCEBase: 0x1000, DCESize: 0x2000, DLMEBase: 0x3000, DLMESize: 0x4000, DLMEEntry: 0x10}, got.DLInfo()); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", l, diff)
		}
		if diff := cmp.Diff(&slrt.LogInfo{Format: 2, Address: 0x7000, Size: 0x8000}, got.LogInfo()); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", l, diff)
		}
		policy, ok := got.Policy()
		if diff := cmp.Diff([]slrt.Measure{{PCR: 17, Type: slrt.EntityMB2Module, Flags: 1, Entity: 0x5000, Size: 99, Text: "Measured MB2 module"}}, policy); !ok || diff != "" {
			t.Errorf("%s: (-want +got)\n%s", l, diff)
		}
		want := &slrt.IntelInfo{MiscEnable: 0x85, MTRRType: 6, MTRRCount: 1, MTRRs: [][2]uint64{{0xa, 0xb}}}
		if l == slrt.New {
			want.Heap = 0x9000
		}
		if diff := cmp.Diff(want, got.IntelInfo()); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", l, diff)
		}
	}
}

func TestTablesOfTheCorpus(t *testing.T) {
	for _, name := range corpus.Files(t, "txt") {
		if !strings.HasPrefix(name, "txt/slrt-") {
			continue
		}
		b := corpus.Read(t, name)
		got, err := slrt.Parse(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		policy, ok := got.Policy()
		if got.DLInfo() == nil || got.LogInfo() == nil || got.IntelInfo() == nil || !ok || len(policy) == 0 {
			t.Errorf("%s: an entry was not decoded: %+v", name, got.Entries)
		}
		if !bytes.Equal(got.AppendTo(nil), b) {
			t.Errorf("%s: written again it differs", name)
		}
	}
	b := corpus.Read(t, "malformed-synthetic/slrt-entry-size-huge.bin")
	var syntax *slrt.SyntaxError
	if got, err := slrt.Parse(b); !errors.As(err, &syntax) || got == nil || !bytes.Equal(got.AppendTo(nil), b) {
		t.Errorf("an entry larger than the table: %v", err)
	}
}

// An entry that claims less than its own header would make a careless reader walk
// for ever.
func TestEntriesThatLie(t *testing.T) {
	for _, l := range []slrt.Layout{slrt.Old, slrt.New} {
		good := table(l)
		at := 16 + 2 // the first entry's size
		if l == slrt.New {
			at = 16 + 4
		}
		for _, size := range []uint16{1, 3, 0xffff} {
			b := bytes.Clone(good)
			le.PutUint16(b[at:], size)
			got, err := slrt.Parse(b)
			var syntax *slrt.SyntaxError
			if !errors.As(err, &syntax) || syntax.Offset != 16 || len(got.Entries) != 0 {
				t.Errorf("%s, a first entry of %d bytes: %v", l, size, err)
			}
		}
		for n := range good {
			if _, err := slrt.Parse(good[:n]); err == nil {
				t.Errorf("%s, cut at %d: no error", l, n)
			}
		}
		b := bytes.Clone(good)
		le.PutUint32(b[8:], 0x2000)
		if _, err := slrt.Parse(b); err == nil {
			t.Errorf("%s: a table larger than its memory is taken", l)
		}
	}
}

func TestLogInfoThatDescribesNoMemory(t *testing.T) {
	for name, v := range map[string][]byte{
		"no address": put(uint16(2), uint16(0), uint32(16), uint64(0)),
		"no size":    put(uint16(2), uint16(0), uint32(0), uint64(0x1000)),
		"wraps":      put(uint16(2), uint16(0), uint32(0x1000), ^uint64(0)-1),
		"huge":       put(uint16(2), uint16(0), uint32(0x7fffffff), uint64(0x1000)),
	} {
		b := table(slrt.New)
		copy(b[16+72+8:], v)
		got, err := slrt.Parse(b)
		if err != nil || got.LogInfo() != nil {
			t.Errorf("%s: %+v, %v", name, got.LogInfo(), err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(table(slrt.Old))
	f.Add(table(slrt.New))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := slrt.Parse(b)
		if got == nil {
			if err == nil {
				t.Error("neither a table nor an error")
			}
			return
		}
		if !bytes.Equal(got.AppendTo(nil), b) {
			t.Error("written again it differs")
		}
		got.DLInfo()
		got.LogInfo()
		got.Policy()
		got.IntelInfo()
		got.AMDInfo()
	})
}
