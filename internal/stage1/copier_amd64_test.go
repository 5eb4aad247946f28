package stage1_test

import (
	"bytes"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/stage1"
)

// The code is run, in a process instead of after a kernel: it copies as many bytes as it
// was told, and goes on where it was told, which here returns.
func TestCopier(t *testing.T) {
	page, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(page)
	at := func(offset int) uint64 { return uint64(uintptr(unsafe.Pointer(&page[offset]))) }
	const from, to, next = 1024, 2048, 3072
	pointer := []byte("RSD PTR 0123456789012345678901234567")
	copy(page[from:], append(pointer, "and more"...))
	page[next] = 0xc3 // ret
	copy(page, stage1.Copier(at(from), uint32(len(pointer)), at(to), at(next)))

	code := &page[0]
	function := &code // a function's value points to its code's address
	(*(*func())(unsafe.Pointer(&function)))()
	runtime.KeepAlive(function)
	if want := append(pointer, 0); !bytes.Equal(page[to:to+len(want)], want) {
		t.Errorf("copied was %q", page[to:to+64])
	}
}
