package store_test

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/store"
)

// named reports whether an error is one that a damaged or changed file may give.
func named(err error) bool {
	for _, known := range []error{
		store.ErrDamaged, store.ErrLost, store.ErrAdded, store.ErrForeign, store.ErrRolledBack, store.ErrAhead, store.ErrOtherRoot, store.ErrUnknown,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// judge opens a spoilt file and checks that what it shows is refused by name, or exactly
// what was put there.
func judge(t *testing.T, path string, root counter, guests int, what string, at int) {
	s, err := store.Open(path, &root)
	if err != nil {
		if !named(err) {
			t.Errorf("%s %d: %v", what, at, err)
		}
		return
	}
	defer s.Close()
	faulty := map[vtpm.UUID]bool{}
	whole := s.Verify(func(f store.Fault) { faulty[f.UUID] = true })
	if whole != nil && !named(whole) {
		t.Errorf("%s %d: Verify: %v", what, at, whole)
	}
	for i := range guests {
		want := guest(i)
		want.Generation = 1
		got, err := s.Get(want.UUID)
		switch {
		case err != nil && !named(err):
			t.Errorf("%s %d: vTPM %d: %v", what, at, i, err)
		case errors.Is(err, store.ErrUnknown):
			t.Errorf("%s %d: vTPM %d disappeared", what, at, i)
		case err != nil && whole == nil && !faulty[want.UUID]:
			t.Errorf("%s %d: vTPM %d is refused (%v) and Verify does not name it", what, at, i, err)
		case err == nil && !reflect.DeepEqual(want, got):
			t.Errorf("%s %d: vTPM %d is another one", what, at, i)
		}
	}
}

// Each byte of a small store's file, flipped: refused by name, or nothing to be seen. No panic,
// no fault of the memory, no endless loop.
func TestEachByteFlipped(t *testing.T) {
	s := newSafe(t)
	s.fill(2)
	must(t, s.Close())
	file, err := os.ReadFile(s.path)
	must(t, err)
	step := 1
	if testing.Short() {
		step = 7
	}
	workers := runtime.NumCPU()
	var running sync.WaitGroup
	for w := range workers {
		path := filepath.Join(folder(t), "vtpms")
		running.Go(func() {
			spoilt := slices.Clone(file)
			for i := w * step; i < len(file); i += workers * step {
				// Bytes that are zero and surrounded by zeros lie in pages that are not in use.
				if i%64 != 0 && i > 64 && i+64 < len(file) && allZero(file[i-64:i+64]) {
					continue
				}
				spoilt[i] ^= 1 << (i % 8)
				if err := os.WriteFile(path, spoilt, 0o600); err != nil {
					t.Error(err)
					return
				}
				judge(t, path, *s.root, 2, "byte", i)
				spoilt[i] = file[i]
			}
		})
	}
	running.Wait()
}

func allZero(b []byte) bool {
	return !slices.ContainsFunc(b, func(x byte) bool { return x != 0 })
}

func TestEachLength(t *testing.T) {
	s := newSafe(t)
	s.fill(2)
	must(t, s.Close())
	file, err := os.ReadFile(s.path)
	must(t, err)
	path := filepath.Join(folder(t), "vtpms")
	for n := 0; n < len(file); n += 97 {
		must(t, os.WriteFile(path, file[:n], 0o600))
		judge(t, path, *s.root, 2, "cut to", n)
	}
}

// Pages whose structure an attacker bends, with the meta pages' checksums mended: bbolt alone would
// run in circles, or write over what is in use.
func TestBentPages(t *testing.T) {
	s := newSafe(t)
	const guests = 20 // enough for pages of branches
	s.fill(guests)
	must(t, s.Close())
	file, err := os.ReadFile(s.path)
	must(t, err)
	path := filepath.Join(folder(t), "vtpms")
	const page = 4096
	// try spoils the file and reports whether it is refused as a whole.
	try := func(what string, at int, bend func([]byte)) bool {
		spoilt := slices.Clone(file)
		bend(spoilt)
		for _, m := range [][]byte{spoilt[16:80], spoilt[page+16 : page+80]} {
			sum := fnv.New64a()
			sum.Write(m[:56])
			binary.NativeEndian.PutUint64(m[56:], sum.Sum64())
		}
		must(t, os.WriteFile(path, spoilt, 0o600))
		judge(t, path, *s.root, guests, what, at)
		must(t, os.WriteFile(path, spoilt, 0o600))
		opened, err := store.Open(path, &counter{key: s.root.key, value: s.root.value})
		if err == nil {
			opened.Close()
		}
		return err != nil
	}
	// Two live pages side by side: the first must not claim the second, too.
	uses := func(id int) bool {
		return id < len(file)/page && try("page", id, func(b []byte) { b[id*page+7] ^= 1 })
	}
	neighbours := 0
	for id := 2; id < len(file)/page; id++ {
		if at := id*page + 12; binary.NativeEndian.Uint32(file[at:]) == 0 && uses(id) && uses(id+1) {
			neighbours++
			if !try("overflow", id, func(b []byte) { binary.NativeEndian.PutUint32(b[at:], 1) }) {
				t.Errorf("page %d may claim the next one", id)
			}
		}
	}
	live := 0
	for id := 2; id < len(file)/page; id++ {
		head := file[id*page:]
		flags, count := binary.NativeEndian.Uint16(head[8:]), int(binary.NativeEndian.Uint16(head[10:]))
		if flags != 1 || int(binary.NativeEndian.Uint64(head)) != id {
			continue
		}
		for e := range count {
			at := id*page + 16 + 16*e + 8
			bend := func(to uint64) bool {
				return try("branch", at, func(b []byte) { binary.NativeEndian.PutUint64(b[at:], to) })
			}
			if !bend(1 << 40) {
				break // a page that is not in use
			}
			live++
			for _, to := range []uint64{0, 1, uint64(id), uint64(len(file) / page)} { // itself, outside
				if !bend(to) {
					t.Errorf("a branch at %#x that leads to page %d is followed", at, to)
				}
			}
			if e > 0 && !try("twins", at, func(b []byte) { copy(b[at:at+8], b[at-16:]) }) {
				t.Errorf("two branches at %#x that lead to one page are followed", at)
			}
		}
	}
	if live == 0 || neighbours == 0 {
		t.Errorf("%d branches were bent, %d pages overlapped", live, neighbours)
	}
	for _, m := range []int{0, page} {
		for field := 16; field < 16+56; field += 8 {
			for _, x := range []uint64{0, 1, 2, 3, 5, 1 << 20, ^uint64(0)} {
				try("meta", m+field, func(b []byte) { binary.NativeEndian.PutUint64(b[m+field:], x) })
			}
		}
	}
}

// With one of bbolt's two meta pages damaged the other one leads to the commit before, and
// bbolt would take it without a word.
func TestADamagedNewestCommitIsNotReplacedByTheOneBefore(t *testing.T) {
	for i := range 2 {
		s := newSafe(t)
		s.fill(1)
		must(t, s.Close())
		file, err := os.ReadFile(s.path)
		must(t, err)
		file[4096*i+16+48] ^= 1 // the transaction's number
		must(t, os.WriteFile(s.path, file, 0o600))
		if _, err := store.Open(s.path, s.root); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("meta page %d damaged: %v", i, err)
		}
	}
}

// The file is cut while the store is open: the kernel faults where it is read.
func TestAFileThatShrinksUnderneathIsDamage(t *testing.T) {
	s := newSafe(t)
	s.fill(40)
	must(t, os.Truncate(s.path, 3*4096))
	refused := 0
	for i := range 40 {
		if _, err := s.Get(uuid(i)); errors.Is(err, store.ErrDamaged) {
			refused++
		} else if err != nil {
			t.Errorf("%v", err)
		}
	}
	if refused == 0 {
		t.Error("nothing is refused")
	}
	if err := s.PutState(uuid(1), 2, state(1, 2)); err == nil {
		t.Error("a commit into nothing")
	}
	if _, err := s.Get(uuid(1)); err == nil {
		t.Error("it is read after a commit broke")
	}
	must(t, s.Close())
}

func TestWhatIsNoFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	if _, err := store.Open(dir, newCounter()); err == nil {
		t.Error("a folder was opened")
	}
	link := filepath.Join(dir, "link")
	s := newSafe(t)
	must(t, s.Close())
	must(t, os.Symlink(s.path, link))
	if _, err := store.Open(link, s.root); err == nil {
		t.Error("a link was followed")
	}
}
