package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
)

// bbolt's pages (its internal/common, format version 2), as far as they must be
// right before bbolt follows them. Integers have the machine's byte order.
const (
	pageSize     = 4096
	pageHeader   = 16 // id 8, flags 2, count 2, overflow 4
	elementSize  = 16
	metaSize     = 64 // with the checksum
	metaMagic    = 0xED0CDAED
	metaVersion  = 2
	flagBranch   = 1
	flagLeaf     = 2
	flagMeta     = 4
	bucketFlag   = 1
	bucketHeader = 16 // root page 8, sequence 8
	noFreelist   = math.MaxUint64
	maxDepth     = 64
	maxKey       = 64 // the store has keys of 18 bytes at most
)

// meta is one of the two meta pages.
type meta struct{ root, freelist, pages, transaction uint64 }

// checkPages looks at every page that bbolt can reach: that it lies in the file, is what
// it is said to be, is reached once, and that its keys are in order and inside of it.
//
// bbolt itself believes all of that. It panics at best; a page that refers to one above it is
// followed until the stack is exhausted, which nothing catches.
func checkPages(f io.ReaderAt, size int64) error {
	newest, err := readMetas(f)
	if err != nil {
		return err
	}
	switch {
	case newest.pages < 3 || newest.pages > uint64(size)/pageSize:
		return fmt.Errorf("it has %d bytes, and %d pages of %d were committed", size, newest.pages, pageSize)
	case newest.freelist != noFreelist:
		return errors.New("it names a list of free pages, which the store never writes")
	}
	c := &checker{f: f, pages: newest.pages, seen: make([]uint64, newest.pages/64+1)}
	c.seen[0] = 3 // the meta pages
	return c.page(newest.root, nil, nil, true, 0)
}

// readMetas returns the newer of the meta pages. Both must be whole, and of two
// transactions of which one followed the other.
func readMetas(f io.ReaderAt) (newest meta, err error) {
	var pages [2]meta
	for i := range uint64(2) {
		b := make([]byte, pageHeader+metaSize)
		if _, err := f.ReadAt(b, int64(i)*pageSize); err != nil {
			return newest, fmt.Errorf("its beginning can't be read: %w", err)
		}
		m := b[pageHeader:]
		sum := fnv.New64a()
		sum.Write(m[:metaSize-8])
		word := func(off int) uint64 { return binary.NativeEndian.Uint64(m[off:]) }
		half := func(off int) uint32 { return binary.NativeEndian.Uint32(m[off:]) }
		if binary.NativeEndian.Uint64(b) != i || binary.NativeEndian.Uint16(b[8:]) != flagMeta ||
			half(0) != metaMagic || half(4) != metaVersion || half(8) != pageSize || word(metaSize-8) != sum.Sum64() {
			return newest, fmt.Errorf("its meta page %d is damaged", i)
		}
		pages[i] = meta{root: word(16), freelist: word(32), pages: word(40), transaction: word(48)}
	}
	older, newest := pages[0], pages[1]
	if older.transaction > newest.transaction {
		older, newest = newest, older
	}
	if newest.transaction-older.transaction != 1 {
		return newest, errors.New("its meta pages are not of two transactions in a row")
	}
	return newest, nil
}

// checker walks the pages of a file.
type checker struct {
	f     io.ReaderAt
	pages uint64
	seen  []uint64 // a bit for each page
}

// page checks the page of a number and all beneath it. Its keys must lie between low,
// itself allowed, and high, itself not; nil stands for no bound. At the top
// level are buckets.
func (c *checker) page(id uint64, low, high []byte, buckets bool, depth int) error {
	wrong := func(what string) error { return fmt.Errorf("its page %d %s", id, what) }
	if id < 2 || id >= c.pages || depth > maxDepth {
		return wrong("can't be one")
	}
	head := make([]byte, pageSize)
	if _, err := c.f.ReadAt(head, int64(id)*pageSize); err != nil {
		return fmt.Errorf("its page %d can't be read: %w", id, err)
	}
	more := uint64(binary.NativeEndian.Uint32(head[12:]))
	if binary.NativeEndian.Uint64(head) != id || more >= c.pages-id {
		return wrong("is not the one that belongs there")
	}
	for i := id; i <= id+more; i++ {
		if c.seen[i/64]&(1<<(i%64)) != 0 {
			return wrong("is used twice")
		}
		c.seen[i/64] |= 1 << (i % 64)
	}
	body := io.NewSectionReader(c.f, int64(id)*pageSize, int64(1+more)*pageSize)
	elements, err := readElements(head, body, body.Size(), low, high)
	if err != nil {
		return wrong(err.Error())
	}
	if binary.NativeEndian.Uint16(head[8:]) == flagLeaf {
		for _, e := range elements {
			if err := c.leaf(body, e, buckets, depth); err != nil {
				return err
			}
		}
		return nil
	}
	for i, e := range elements {
		end := high
		if i+1 < len(elements) {
			end = elements[i+1].key
		}
		if err := c.page(e.page, e.key, end, buckets, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// leaf checks an element of a leaf page: a bucket at the top level, a plain value below.
func (c *checker) leaf(body io.ReaderAt, e element, buckets bool, depth int) error {
	if !buckets {
		if e.flags != 0 {
			return errors.New("it has buckets where it should have values")
		}
		return nil
	}
	if e.flags != bucketFlag || string(e.key) != bucketName || e.size < bucketHeader {
		return errors.New("it has a bucket that is not the store's")
	}
	// A small bucket stands in its parent's page, behind its header, and says that its
	// root is page 0.
	b := make([]byte, min(e.size, pageSize))
	if _, err := body.ReadAt(b, e.value); err != nil {
		return fmt.Errorf("its bucket can't be read: %w", err)
	}
	if root := binary.NativeEndian.Uint64(b); root != 0 {
		return c.page(root, nil, nil, false, depth+1)
	}
	if b = b[bucketHeader:]; e.size > pageSize || len(b) < pageHeader || binary.NativeEndian.Uint16(b[8:]) != flagLeaf {
		return errors.New("its bucket can't be read")
	}
	elements, err := readElements(b, bytes.NewReader(b), int64(len(b)), nil, nil)
	if err != nil {
		return fmt.Errorf("its bucket %w", err)
	}
	for _, e := range elements {
		if e.flags != 0 {
			return errors.New("it has buckets where it should have values")
		}
	}
	return nil
}

// element is a key of a page and what it leads to.
type element struct {
	key   []byte
	page  uint64 // of a branch
	flags uint32 // of a leaf, as the others
	value int64  // where it begins
	size  int64
}

// readElements reads the keys of a page whose beginning is head, and all of which is body.
func readElements(head []byte, body io.ReaderAt, size int64, low, high []byte) ([]element, error) {
	flags, count := binary.NativeEndian.Uint16(head[8:]), int64(binary.NativeEndian.Uint16(head[10:]))
	if flags != flagLeaf && (flags != flagBranch || count == 0) {
		return nil, errors.New("has no kind that it could have")
	}
	first := pageHeader + count*elementSize
	if first > size {
		return nil, errors.New("has more keys than there is room")
	}
	table := head
	if first > int64(len(head)) {
		table = make([]byte, first)
		if _, err := body.ReadAt(table, 0); err != nil {
			return nil, fmt.Errorf("can't be read: %w", err)
		}
	}
	list := make([]element, count)
	for i := range list {
		at := int64(pageHeader + i*elementSize)
		word := func(n int64) uint32 { return binary.NativeEndian.Uint32(table[at+4*n:]) }
		e := &list[i]
		var pos, length int64
		if flags == flagLeaf {
			e.flags, pos, length, e.size = word(0), int64(word(1)), int64(word(2)), int64(word(3))
		} else {
			pos, length, e.page = int64(word(0)), int64(word(1)), binary.NativeEndian.Uint64(table[at+8:])
		}
		e.value = at + pos + length
		if at+pos < first || length == 0 || length > maxKey || e.value+e.size > size {
			return nil, errors.New("has a key outside of it")
		}
		e.key = make([]byte, length)
		if n := int64(len(head)); e.value <= n {
			copy(e.key, head[at+pos:])
		} else if _, err := body.ReadAt(e.key, at+pos); err != nil {
			return nil, fmt.Errorf("can't be read: %w", err)
		}
		if i > 0 && bytes.Compare(list[i-1].key, e.key) >= 0 || low != nil && bytes.Compare(e.key, low) < 0 || high != nil && bytes.Compare(e.key, high) >= 0 {
			return nil, errors.New("has keys out of order")
		}
	}
	return list, nil
}
