package ima

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/antievilmaid/aem/tpm"
)

// Limits against lists that claim much. The kernel itself writes names up to
// 255 bytes in the old template and paths up to 4096, and signatures of some
// kilobytes; "ima-buf" carries whole keys and policies.
const (
	maxName = 1024
	maxData = 16 << 20
)

// SyntaxError says where and why a list can't be read on.
type SyntaxError struct {
	Offset int64
	Entry  int
	Reason string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("IMA list: entry %d at offset %d: %s", e.Entry, e.Offset, e.Reason)
}

// Reader reads a binary list. It needs memory for one entry.
type Reader struct {
	r      *bufio.Reader
	width  int // of the template digests
	offset int64
	count  int
	err    error
	entry  Entry
	digest []byte
	name   []byte
	data   []byte
	number [4]byte
	kinds  []string // of the entry's template
}

// NewReader begins to read a binary list.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, 64<<10)} }

// Width is the length of the list's template digests; 0 before the first entry.
func (r *Reader) Width() int { return r.width }

// Next returns the next entry, which is valid until the call after. After the last
// one it returns [io.EOF]; a malformed list ends with a [*SyntaxError].
func (r *Reader) Next() (*Entry, error) {
	if r.err != nil {
		return nil, r.err
	}
	start := r.offset
	if err := r.next(); err != nil {
		switch {
		case errors.Is(err, io.EOF) && r.offset == start:
			r.err = io.EOF
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			r.err = &SyntaxError{start, r.count, "the list ends inside this entry"}
		default:
			r.err = err
		}
		return nil, r.err
	}
	r.count++
	return &r.entry, nil
}

func (r *Reader) fail(at int64, format string, args ...any) error {
	return &SyntaxError{at, r.count, fmt.Sprintf(format, args...)}
}

func (r *Reader) next() error {
	start := r.offset
	if r.width == 0 {
		width, err := findWidth(r.r)
		if err != nil {
			if errors.Is(err, io.EOF) {
				return err
			}
			return r.fail(start, "%v", err)
		}
		r.width = width
		r.digest = make([]byte, width)
	}
	pcr, err := r.u32()
	if err != nil {
		return err
	}
	if pcr >= tpm.NumPCRs {
		return r.fail(start, "there is no PCR %d", pcr)
	}
	if err := r.full(r.digest); err != nil {
		return err
	}
	size, err := r.u32()
	if err != nil {
		return err
	}
	if size == 0 || size > maxName {
		return r.fail(start, "a template's name has %d bytes", size)
	}
	if r.name, err = r.bytes(r.name[:0], size); err != nil {
		return err
	}
	if !printable(r.name) {
		return r.fail(start, "a template's name is %q", r.name)
	}
	e := &r.entry
	*e = Entry{PCR: tpm.PCR(pcr), Digest: r.digest, Template: e.Template, Fields: e.Fields[:0], Offset: start}
	if e.Template != string(r.name) { // the same one again costs no memory
		e.Template = string(r.name)
		r.kinds = kinds(e.Template)
	}
	if e.Template == "ima" {
		return r.legacy()
	}
	if size, err = r.u32(); err != nil {
		return err
	}
	if size > maxData {
		return r.fail(start, "it claims %d bytes of data", size)
	}
	if r.data, err = r.bytes(r.data[:0], size); err != nil {
		return err
	}
	e.Data = r.data
	e.Fields = split(e, r.kinds, e.Fields)
	return nil
}

// legacy reads the rest of an entry of the template "ima", which has no length of
// its data.
func (r *Reader) legacy() error {
	start := r.entry.Offset
	digest := make([]byte, tpm.SHA1.Size())
	if err := r.full(digest); err != nil {
		return err
	}
	size, err := r.u32()
	if err != nil {
		return err
	}
	if size > 4096 {
		return r.fail(start, "a file's name has %d bytes", size)
	}
	var name []byte
	if name, err = r.bytes(nil, size); err != nil {
		return err
	}
	r.data = legacy(r.data[:0], digest, name)
	r.entry.Data = r.data
	r.entry.Fields = append(r.entry.Fields, Field{"d", digest}, Field{"n", name})
	return nil
}

func (r *Reader) full(b []byte) error {
	n, err := io.ReadFull(r.r, b)
	r.offset += int64(n)
	return err
}

func (r *Reader) u32() (uint32, error) {
	if err := r.full(r.number[:]); err != nil {
		return 0, err
	}
	return le.Uint32(r.number[:]), nil
}

// bytes appends n bytes. The memory grows with what is really there, not with what
// is claimed.
func (r *Reader) bytes(dst []byte, n uint32) ([]byte, error) {
	const step = 32 << 10
	for n > 0 {
		k := int(min(n, step))
		at := len(dst)
		dst = slices.Grow(dst, k)[:at+k]
		if err := r.full(dst[at:]); err != nil {
			return dst, err
		}
		n -= uint32(k)
	}
	return dst, nil
}

// findWidth looks where behind the first PCR index a sane template name stands.
func findWidth(r *bufio.Reader) (int, error) {
	b, err := r.Peek(4 + 64 + 4 + 64)
	if len(b) == 0 {
		return 0, io.EOF
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	for _, width := range []int{20, 32, 48, 64} {
		at := 4 + width
		if len(b) < at+4 {
			break
		}
		n := le.Uint32(b[at:])
		name := b[at+4:]
		if n > 0 && n <= maxName && uint64(min(n, 4)) <= uint64(len(name)) && printable(name[:min(int(n), len(name))]) {
			return width, nil
		}
	}
	return 0, errors.New("no template's name stands where one should")
}

func printable(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}
