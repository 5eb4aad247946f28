// Package unpack lists what is inside an initramfs, so that two of them can be
// compared file by file.
//
// A boot loader hands the kernel one run of bytes. In it stand cpio archives one
// after the other, each plain or compressed, with zeros between them: usually a
// plain one with microcode and then a compressed one with everything else. The
// kernel unpacks them in turn into one root file system, and what comes later
// overwrites what came before (Documentation/driver-api/early-userspace/
// buffer-format.rst, init/initramfs.c).
//
// The images compared are those of a disk that an attacker had, and the question
// is which files the kernel would have left there. Whoever can make this package
// read an image in another way than the kernel does can hide a file from the
// comparison. So the rules here are the kernel's, not those of cpio(1), gzip(1)
// and their kin, and go as far as symbolic links in the middle of paths, parents
// that are missing and hard links that are written through. Where an image uses
// what no kernel or not every kernel reads in the same way, reading ends with an
// error or the image gets a [Tree.Doubts] entry. Which compressions a kernel has
// been built with can't be seen from an image, and it stops at one that it lacks.
// So what an image holds but does not leave visible is kept as [Tree.Hidden]: an
// attacker's file does not vanish below the old one.
//
// Nothing is trusted: no amount of memory follows from a number in the input
// alone, and [Limits] bound the output.
package unpack

import (
	"errors"
	"fmt"
)

// The limits that [Read] sets. They are far above what real images need.
const (
	MaxUnpacked = 1 << 30 // bytes of all unpacked archives together
	MaxEntries  = 1 << 20 // entries of all archives together, trailers included
	MaxSegments = 1 << 12 // archives and compressed streams in one image
	MaxPath     = 4096    // bytes of a path with all symbolic links resolved: Linux' PATH_MAX
)

// ErrTooLarge is wrapped where an image exceeds one of the [Limits].
var ErrTooLarge = errors.New("the image unpacks to more than the limit allows")

// errShort is what a decompressor says where its input ends in the middle.
var errShort = errors.New("the data end too early")

// Limits bound what reading an image may cost. A field that is zero stands for
// the constant of the same name.
type Limits struct {
	Unpacked int // bytes
	Entries  int
	Segments int
}

func (l Limits) orDefault() Limits {
	if l.Unpacked == 0 {
		l.Unpacked = MaxUnpacked
	}
	if l.Entries == 0 {
		l.Entries = MaxEntries
	}
	if l.Segments == 0 {
		l.Segments = MaxSegments
	}
	return l
}

// Tree is what an initramfs leaves in the root file system.
type Tree struct {
	Files    []File    // sorted by path
	Hidden   []Hidden  // in the order of the image
	Segments []Segment // in the order of the image

	// Doubts are sentences about what not every kernel takes as it was taken
	// here. An image that a distribution built gives none.
	Doubts []string
}

// File is a file, directory, link or device as the kernel leaves it. All text in
// it is the image's: escape it before it reaches a terminal.
type File struct {
	Path         string   // from the root, without a leading slash; "." is the root itself
	Mode         uint32   // type and permissions as in st_mode, such as 0o100755
	UID, GID     uint32   //
	Size         int64    // of the contents, in bytes
	Sum          [32]byte // SHA-256 of a regular file's contents; zeros for everything else
	Target       string   // of a symbolic link
	Major, Minor uint32   // of a device node
	Segment      int      // index in Tree.Segments of the archive that named it last
}

// Hidden is something that an image holds and that its file system does not
// show: a file that a later entry covers, or an entry of which the kernel makes
// nothing. Few images that were built honestly have any, apart from files in
// which a second archive replaces those of a first.
type Hidden struct {
	File
	Why string // half a sentence without the path, such as "a later entry replaces it"
}

// Segment is one archive of an image: a plain cpio archive up to its trailer, or
// one compressed stream with all that is in it.
type Segment struct {
	Offset      int    // in the image
	Size        int    // bytes taken in the image, the zeros after it not counted
	Compression string // "plain", or as [Decompress] names it
	Unpacked    int    // bytes that it unpacks to
}

// Error says where in an image reading ended, and why.
type Error struct {
	Segment     int    // index in Tree.Segments
	Offset      int    // of the segment in the image
	Compression string // as in Segment, or "unknown"
	Inside      int    // offset in the unpacked segment, or -1 if the error is not about an entry
	Err         error
}

func (e *Error) Error() string {
	where := ""
	if e.Inside >= 0 {
		where = fmt.Sprintf(", at byte %d of the archive", e.Inside)
	}
	return fmt.Sprintf("segment %d of the initramfs (%s, at byte %d of the image)%s: %v",
		e.Segment+1, e.Compression, e.Offset, where, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Read lists what the initramfs b leaves in the root file system.
//
// An error is an [*Error]. The kernel also stops at what is wrong, keeps what it
// has unpacked until then and goes on booting, so the Tree is never nil and holds
// what stood before the error.
func Read(b []byte) (*Tree, error) { return Limits{}.Read(b) }

// Read is [Read] with other limits.
func (l Limits) Read(b []byte) (*Tree, error) {
	r := reader{image: b, limits: l.orDefault(), tree: new(Tree)}
	r.root = newRootfs(r.tree)
	err := r.read()
	r.tree.Files = r.root.files()
	return r.tree, err
}

// reader walks through an image.
type reader struct {
	image   []byte
	limits  Limits
	tree    *Tree
	root    *rootfs
	entries int
	spent   int  // unpacked bytes
	open    bool // the last segment is a plain archive whose trailer has not come
}

// read is the outer loop of unpack_to_rootfs in the kernel's init/initramfs.c:
// an archive stands at a multiple of four, zeros are skipped, and whatever else
// comes must be a compressed stream.
func (r *reader) read() error {
	for at := 0; at < len(r.image); {
		switch c := r.image[at]; {
		case c == 0:
			at++
		case c == '0' && at%4 == 0:
			used, err := r.plain(at)
			if err != nil {
				return err
			}
			at += used
		default:
			used, err := r.compressed(at)
			if err != nil {
				return err
			}
			at += used
		}
	}
	if len(r.tree.Segments) == 0 {
		return &Error{Compression: "unknown", Inside: -1, Err: errors.New("there is no archive in it")}
	}
	return nil
}

// segment begins a segment and returns its index.
func (r *reader) segment(s Segment) (int, error) {
	if len(r.tree.Segments) == r.limits.Segments {
		return 0, &Error{Segment: len(r.tree.Segments), Offset: s.Offset, Compression: s.Compression, Inside: -1,
			Err: fmt.Errorf("%w: more than %d archives", ErrTooLarge, r.limits.Segments)}
	}
	r.tree.Segments = append(r.tree.Segments, s)
	return len(r.tree.Segments) - 1, nil
}

// plain takes one entry of a plain archive.
func (r *reader) plain(at int) (used int, err error) {
	if !r.open {
		if _, err := r.segment(Segment{Offset: at, Compression: "plain"}); err != nil {
			return 0, err
		}
	}
	index := len(r.tree.Segments) - 1
	s := &r.tree.Segments[index]
	used, trailer, err := r.entry(r.image[at:], index)
	if err == nil {
		err = r.spend(used)
	}
	if err != nil {
		return 0, &Error{Segment: index, Offset: s.Offset, Compression: s.Compression, Inside: at - s.Offset, Err: err}
	}
	s.Size = at + used - s.Offset
	s.Unpacked = s.Size
	r.open = !trailer
	return used, nil
}

// compressed takes one compressed stream with all the archives in it.
func (r *reader) compressed(at int) (used int, err error) {
	r.open = false
	z := decompress(r.image[at:], r.limits.Unpacked-r.spent)
	kind := z.kind
	if kind == "" {
		kind = "unknown"
	}
	index, err := r.segment(Segment{Offset: at, Size: z.used, Compression: kind, Unpacked: len(z.out)})
	if err != nil {
		return 0, err
	}
	if z.doubt != "" {
		r.tree.Doubts = append(r.tree.Doubts, fmt.Sprintf("segment %d (%s, at byte %d): %s", index+1, kind, at, z.doubt))
	}
	r.spent += len(z.out)

	// The kernel unpacks while it decompresses, so what came out before an error counts.
	inside, err := r.archives(z.out, index)
	if z.err != nil {
		inside, err = -1, z.err
	}
	if err != nil {
		return 0, &Error{Segment: index, Offset: at, Compression: kind, Inside: inside, Err: err}
	}
	return z.used, nil
}

// archives takes all entries of an unpacked stream, as flush_buffer in the
// kernel's init/initramfs.c does.
func (r *reader) archives(b []byte, index int) (at int, err error) {
	if r.entries == 0 && (len(b) == 0 || b[0] != '0') {
		return 0, errors.New("the stream does not begin with a cpio archive")
	}
	for at < len(b) {
		switch {
		case b[at] == 0:
			at++
		case at%4 != 0:
			return at, errors.New("an entry does not begin at a multiple of four")
		case b[at] != '0':
			return at, errors.New("something else than a cpio archive follows an entry")
		default:
			used, _, err := r.entry(b[at:], index)
			if err != nil {
				return at, err
			}
			at += used
		}
	}
	return at, nil
}

// entry takes the entry with which b begins.
func (r *reader) entry(b []byte, index int) (used int, trailer bool, err error) {
	if r.entries == r.limits.Entries {
		return 0, false, fmt.Errorf("%w: more than %d entries", ErrTooLarge, r.limits.Entries)
	}
	r.entries++
	e, used, err := parse(b)
	if err != nil {
		return 0, false, err
	}
	trailer, err = r.root.apply(e, index)
	return used, trailer, err
}

func (r *reader) spend(n int) error {
	if n > r.limits.Unpacked-r.spent {
		return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, r.limits.Unpacked)
	}
	r.spent += n
	return nil
}
