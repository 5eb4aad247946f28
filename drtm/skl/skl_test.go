package skl_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/drtm/skl"
)

var uuid = []byte{0x78, 0xf1, 0x26, 0x8e, 0x04, 0x92, 0x11, 0xe9, 0x83, 0x2a, 0xc8, 0x5b, 0x76, 0xc4, 0xcc, 0x02}

// block is a loader whose two offsets stand at a place: 4 in older ones, 66 in newer.
func block(at int) []byte {
	b := make([]byte, 1024)
	copy(b, []byte{0, 1, 0, 2}) // starts at 256, 512 bytes count
	copy(b[at:], []byte{128, 0, 0, 2})
	copy(b[128:], uuid)
	b[144] = 7
	return b
}

func TestBlocks(t *testing.T) {
	for _, at := range []int{4, 66} {
		got, err := skl.Parse(block(at))
		if err != nil {
			t.Fatal(err)
		}
		if got.Entry != 256 || got.Length != 512 || !bytes.Equal(got.Measured, block(at)[:512]) {
			t.Errorf("offsets at %d: entry %d, %d bytes", at, got.Entry, len(got.Measured))
		}
		if l := got.Loader; l == nil || *l != (skl.Loader{Version: 7, InfoOffset: 128, DataOffset: 512}) {
			t.Errorf("offsets at %d: the loader is %+v", at, l)
		}
	}
	other := block(4)
	other[130] = 0
	if got, err := skl.Parse(other); err != nil || got.Loader != nil {
		t.Errorf("another loader's block: %+v, %v", got, err)
	}
}

// A length of zero stands for all 64 KiB.
func TestABlockThatCountsWhole(t *testing.T) {
	b := make([]byte, skl.MaxSize)
	if got, err := skl.Parse(b); err != nil || len(got.Measured) != skl.MaxSize {
		t.Errorf("%v", err)
	}
	if _, err := skl.Parse(b[:skl.MaxSize-1]); !errors.Is(err, skl.ErrNoBlock) {
		t.Errorf("a byte less: %v", err)
	}
}

func TestBlocksThatAreNone(t *testing.T) {
	for reason, b := range map[string][]byte{
		"has no header":        {1, 2, 3},
		"less than its header": {0, 0, 3, 0, 0},
		"but it has 8":         {0, 0, 9, 0, 0, 0, 0, 0},
		"behind the 8 bytes":   {8, 0, 8, 0, 0, 0, 0, 0},
	} {
		if _, err := skl.Parse(b); !errors.Is(err, skl.ErrNoBlock) || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: %v", reason, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(block(4))
	f.Add(block(66))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := skl.Parse(b)
		if err == nil && !bytes.HasPrefix(b, got.Measured) {
			t.Error("the measured part is not the block's beginning")
		}
	})
}
