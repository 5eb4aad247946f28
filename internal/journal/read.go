package journal

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"golang.org/x/sys/unix"
)

// Entries goes through the journal as it is now, from the first entry to the last,
// in constant memory. What is wrong with it comes as an error in the place where it is
// found: a [*BrokenError], perhaps with the entry of that line, a [*TornError] at the end.
// Whoever goes on gets what follows. Others may write in the meantime.
func (j *Journal) Entries() iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for l := range j.lines() {
			if !l.shown(yield) {
				return
			}
		}
	}
}

// Read goes through a copy of a journal, as [Journal.Entries] does.
func Read(r io.Reader) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for l := range scan(r, false) {
			if !l.shown(yield) {
				return
			}
		}
	}
}

// line is a line of the file, and what was found wrong with it.
type line struct {
	index uint64
	whole bool // it can be followed by others; else it is torn, or could not be read
	sum   [sha256.Size]byte
	entry Entry
	err   error
}

func (l line) shown(yield func(Entry, error) bool) bool {
	if l.index == 0 && l.err == nil {
		return true
	}
	return yield(l.entry, l.err)
}

// lines reads the file. Only its end is looked for under the lock: whole lines don't
// change, and a reader who takes his time must not make an approval wait.
func (j *Journal) lines() iter.Seq[line] {
	return func(yield func(line) bool) {
		f, end, torn, err := j.snapshot()
		if err != nil {
			yield(line{err: err})
			return
		}
		defer f.Close()
		var n uint64
		for l := range scan(io.NewSectionReader(f, 0, end), torn > 0) {
			if !yield(l) || !l.whole {
				return
			}
			n = l.index + 1
		}
		if torn > 0 {
			yield(line{index: n, err: &TornError{n + 1, torn}})
		}
	}
}

func (j *Journal) snapshot() (f *os.File, end, torn int64, err error) {
	if f, err = j.open(os.O_RDONLY, unix.LOCK_SH); err != nil {
		return nil, 0, 0, err
	}
	info, err := f.Stat()
	if err == nil {
		end, err = lastBreak(f, info.Size())
	}
	if errors.Is(err, errLong) { // nothing that a writer would take away
		end, err = info.Size(), nil
	}
	if err = errors.Join(err, unix.Flock(int(f.Fd()), unix.LOCK_UN)); err != nil {
		f.Close()
		return nil, 0, 0, fmt.Errorf("read the journal: %w", err)
	}
	return f, end, info.Size() - end, nil
}

// scan reads lines and holds each against the one before. A line that is too long is
// read to its end, for its sum, but not kept. more says that r is followed by a torn line:
// then the last one of r is not the last.
func scan(r io.Reader, more bool) iter.Seq[line] {
	return func(yield func(line) bool) {
		b := bufio.NewReaderSize(r, 1<<16)
		var prev [sha256.Size]byte
		for i := uint64(0); ; i++ {
			text, sum, size, err := readLine(b)
			if err == io.EOF && size == 0 {
				return
			}
			l := line{index: i, whole: true, sum: sum}
			switch {
			case err != nil && err != io.EOF:
				l = line{index: i, err: fmt.Errorf("read the journal: %w", err)}
			case size > maxLine || err == io.EOF && size == maxLine:
				l.err = broken(i+1, "%v", errLong)
			case err != nil || hollow(text) && !more && atEnd(b):
				l = line{index: i, err: &TornError{i + 1, size}}
			case i == 0:
				l.err = checkHeader(text, 1)
				l.whole = !errors.Is(l.err, ErrVersion)
			default:
				l.entry, l.err = follow(text, i, prev)
			}
			if !yield(l) || !l.whole {
				return
			}
			prev = sum
		}
	}
}

func atEnd(b *bufio.Reader) bool {
	_, err := b.Peek(1)
	return err == io.EOF
}

// follow decodes line i, which must continue the line with the sum prev.
func follow(text []byte, i uint64, prev [sha256.Size]byte) (Entry, error) {
	e, claimed, err := decode(text, i+1)
	switch {
	case err != nil:
		return e, err
	case claimed != prev:
		return e, broken(i+1, "it does not continue the line before: one of the two was changed, or what stood between them was taken out")
	case e.Number != i:
		return e, broken(i+1, "its number is %d, not %d", e.Number, i)
	}
	return e, nil
}

// readLine reads a line and its line feed. Of a line longer than maxLine only sum and
// size are right. The error is io.EOF for a line without line feed.
func readLine(b *bufio.Reader) (text []byte, sum [sha256.Size]byte, size int64, err error) {
	h := sha256.New()
	for {
		part, err := b.ReadSlice('\n')
		h.Write(part)
		if size += int64(len(part)); size <= maxLine {
			text = append(text, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return text, [sha256.Size]byte(h.Sum(nil)), size, err
		}
	}
}
