package wire_test

import (
	"bytes"
	"testing"

	"github.com/antievilmaid/aem/internal/wire"
)

func TestFieldsAreReadInOrder(t *testing.T) {
	r := wire.NewReader([]byte{1, 2, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 'a', 'b', 'c'})
	if r.U8() != 1 || r.U16() != 2 || r.U32() != 3 || r.U64() != 4 || r.Offset() != 15 || r.Left() != 3 {
		t.Errorf("after the numbers the offset is %d", r.Offset())
	}
	if a, rest := r.Bytes(1), r.Rest(); string(a) != "a" || string(rest) != "bc" || r.Left() != 0 || r.Short() {
		t.Errorf("%q, %q, short %t", a, rest, r.Short())
	}
}

// A field behind the end is zero, and so is every one after it, even one that
// would fit: half a structure is none.
func TestNothingIsReadBehindAShortField(t *testing.T) {
	r := wire.NewReader([]byte{1, 2, 3})
	if got := r.U32(); got != 0 || !r.Short() {
		t.Errorf("a short number is %d, short %t", got, r.Short())
	}
	if r.U8() != 0 || r.U16() != 0 || r.U64() != 0 || r.Bytes(0) != nil {
		t.Error("something was read after it")
	}
}

// A length near 2^32 must not wrap around.
func TestHugeLengths(t *testing.T) {
	r := wire.NewReader(bytes.Repeat([]byte{7}, 16))
	r.U8()
	if b := r.Bytes(0xffffffff); b != nil || !r.Short() {
		t.Errorf("%d bytes, short %t", len(b), r.Short())
	}
}

// What was returned can be appended to without touching what follows it.
func TestBytesDoNotOverlap(t *testing.T) {
	b := []byte("abc")
	r := wire.NewReader(b)
	_ = append(r.Bytes(1), 'x')
	if string(b) != "abc" {
		t.Errorf("the input became %q", b)
	}
}
