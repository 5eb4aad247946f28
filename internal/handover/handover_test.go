package handover_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/handover"
)

// written is the file's contents after Write.
func written(t testing.TB, hs ...handover.Handover) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "handover")
	f, err := handover.Create(path, handover.DefaultSize)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, h := range hs {
		if err := handover.Write(f, handover.DefaultSize, h); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var sample = handover.Handover{Generation: 7, Platform: drtm.SKINIT, Log: []byte("an event log")}

func TestParseReadsWhatWriteWrote(t *testing.T) {
	for name, h := range map[string]handover.Handover{
		"launched":     sample,
		"not launched": {Generation: 8},
	} {
		got, err := handover.Parse(written(t, h))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(h, got); diff != "" {
			t.Errorf("%s: (-written +parsed)\n%s", name, diff)
		}
	}
}

func TestFileHasItsSize(t *testing.T) {
	if n := len(written(t, sample)); n != handover.DefaultSize {
		t.Errorf("the file has %d bytes", n)
	}
}

// A shorter log must not leave the longer one's tail behind: a reader that
// looks past the end would see events that never happened.
func TestWriteLeavesNothingOfThePreviousLog(t *testing.T) {
	b := written(t,
		handover.Handover{Generation: 1, Platform: drtm.TXT, Log: bytes.Repeat([]byte("old"), 1000)},
		handover.Handover{Generation: 2, Platform: drtm.TXT, Log: []byte("new")})
	if bytes.Contains(b, []byte("old")) {
		t.Error("part of the previous log is still in the file")
	}
}

func TestWriteRefusesALogThatDoesNotFit(t *testing.T) {
	f, err := handover.Create(filepath.Join(t.TempDir(), "h"), handover.MinSize)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := handover.Write(f, handover.MinSize, handover.Handover{Platform: drtm.TXT, Log: make([]byte, handover.MinSize)}); err == nil {
		t.Error("a log as large as the whole hand-over was accepted")
	}
}

func TestCreateRefusesSizesThatTheDeviceCannotHave(t *testing.T) {
	for _, size := range []int64{0, -1, 4096, 65535, 65537, 3 << 14, 1 << 40} {
		if f, err := handover.Create(filepath.Join(t.TempDir(), "h"), size); err == nil {
			f.Close()
			t.Errorf("a hand-over of %d bytes was made", size)
		}
	}
}

func TestParseRefusesWhatPointsOutside(t *testing.T) {
	for name, change := range map[string]func(b []byte){
		"a log behind the end":        func(b []byte) { binary.LittleEndian.PutUint32(b[24:], uint32(len(b)-2)) },
		"a length that wraps around":  func(b []byte) { binary.LittleEndian.PutUint32(b[28:], 0xffffffff) },
		"a log inside the header":     func(b []byte) { binary.LittleEndian.PutUint32(b[24:], 31) },
		"an unknown platform":         func(b []byte) { b[20] = 3 },
		"a log although not launched": func(b []byte) { b[20] = 0 },
	} {
		b := written(t, sample)
		change(b)
		if h, err := handover.Parse(b); err == nil || errors.Is(err, handover.ErrNone) {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
}

func TestParseWithoutMagicIsNone(t *testing.T) {
	b := written(t, sample)
	b[0] ^= 1
	for name, b := range map[string][]byte{"empty": nil, "short": b[:31], "another magic": b, "zeros": make([]byte, 8192), "ones": bytes.Repeat([]byte{0xff}, 8192)} {
		if _, err := handover.Parse(b); !errors.Is(err, handover.ErrNone) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// device makes a PCI device in a folder that stands for the root.
func device(t *testing.T, root, address, vendor, dev string, memory []byte) {
	t.Helper()
	dir := filepath.Join(root, "sys/bus/pci/devices", address)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"vendor": []byte(vendor + "\n"), "device": []byte(dev + "\n"), "resource2": memory} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFindTakesTheDeviceThatHoldsAHandover(t *testing.T) {
	root := t.TempDir()
	device(t, root, "0000:00:01.0", "0x8086", "0x1237", written(t, handover.Handover{Generation: 1}))
	device(t, root, "0000:00:02.0", "0x1af4", "0x1110", make([]byte, 8192)) // somebody else's shared memory
	device(t, root, "0000:00:03.0", "0x1af4", "0x1110", nil)                // none at all
	device(t, root, "0000:00:04.0", "0x1af4", "0x1110", written(t, sample))
	got, err := handover.FindUnder(root)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestFindWithoutDeviceIsNone(t *testing.T) {
	root := t.TempDir()
	if _, err := handover.FindUnder(root); !errors.Is(err, handover.ErrNone) {
		t.Errorf("on a machine without PCI: %v", err)
	}
	device(t, root, "0000:00:01.0", "0x8086", "0x1110", written(t, sample))
	if _, err := handover.FindUnder(root); !errors.Is(err, handover.ErrNone) {
		t.Errorf("with another maker's device: %v", err)
	}
}

// A damaged hand-over is an error, not the absence of one: to fall silent would
// look like a machine that was never meant to be launched.
func TestFindReportsADamagedHandover(t *testing.T) {
	root := t.TempDir()
	b := written(t, sample)
	b[20] = 9
	device(t, root, "0000:00:04.0", "0x1af4", "0x1110", b)
	if _, err := handover.FindUnder(root); err == nil || errors.Is(err, handover.ErrNone) {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	seeds := [][]byte{nil, written(f, sample), written(f, handover.Handover{Generation: 1})[:4096]}
	for _, s := range seeds {
		f.Add(s)
	}
	if h, err := handover.Parse(seeds[1]); err != nil || len(h.Log) == 0 {
		f.Fatalf("the seed is no hand-over: %v", err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := handover.Parse(b)
		if err != nil {
			return
		}
		if h.Platform > drtm.SKINIT || h.Platform == 0 && h.Log != nil {
			t.Errorf("accepted platform %d with a log of %d bytes", h.Platform, len(h.Log))
		}
		if len(h.Log) > 0 && !bytes.Contains(b, h.Log) {
			t.Error("the log is not part of the input")
		}
	})
}
