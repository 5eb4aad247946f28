package journal

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// open opens the file and waits for its lock. A pipe in its place must not make the
// program wait, and a symbolic link not make it write elsewhere.
func (j *Journal) open(flags, lock int) (*os.File, error) {
	for {
		f, err := os.OpenFile(j.path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open the journal: %w", err)
		}
		current, err := j.lock(f, lock)
		if err == nil && current {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("lock the journal: %w", err)
		}
	}
}

// lock reports whether the file that is now locked still is the one with the name: it
// may have been moved away while the lock was waited for.
func (j *Journal) lock(f *os.File, how int) (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, fmt.Errorf("%s is not a regular file", j.path)
	}
	for {
		if err = unix.Flock(int(f.Fd()), how); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return false, err
	}
	now, err := os.Lstat(j.path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(info, now), err
}

var errLong = fmt.Errorf("it has more than %d bytes", maxLine)

// lastBreak finds the end of the last whole line in the first end bytes, or 0.
func lastBreak(r io.ReaderAt, end int64) (int64, error) {
	buf := make([]byte, 4096)
	for at := end; at > 0; {
		n := min(at, int64(len(buf)))
		at -= n
		if _, err := r.ReadAt(buf[:n], at); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return at + int64(i) + 1, nil
		}
		if end-at >= maxLine {
			return 0, errLong
		}
	}
	return 0, nil
}

// tail is what a writer must know of a file.
type tail struct {
	last Head
	none bool  // there is not even a first line
	end  int64 // of the last whole line
	torn int64 // bytes that follow
}

// readTail reads the first line and the last only, so that a journal of many years
// does not make an approval slow. Verify reads all of them.
func readTail(r io.ReaderAt, size int64) (tail, error) {
	end, err := lastBreak(r, size)
	if err != nil {
		return tail{}, atTheEnd(err)
	}
	t := tail{end: end, torn: size - end}
	line, err := lineBefore(r, end)
	if err == nil && t.torn == 0 && hollow(line) {
		t = tail{end: end - int64(len(line)), torn: int64(len(line))}
		line, err = lineBefore(r, t.end)
	}
	if err != nil {
		return tail{}, atTheEnd(err)
	}
	if t.end == 0 {
		t.none = true
		return t, nil
	}
	if err := readHeader(r, t.end); err != nil {
		return tail{}, err
	}
	t.last.Sum = sha256.Sum256(line)
	if t.end == int64(len(line)) {
		return t, nil
	}
	e, _, err := decode(line, 0)
	t.last.Number = e.Number
	return t, err
}

// readHeader looks at the first line of the first end bytes, which are whole lines. A
// newer format must not get lines of this one.
func readHeader(r io.ReaderAt, end int64) error {
	first := make([]byte, min(end, 4096))
	if _, err := r.ReadAt(first, 0); err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	i := bytes.IndexByte(first, '\n')
	return checkHeader(first[:i+1], 1)
}

func atTheEnd(err error) error {
	if err == errLong {
		return &BrokenError{0, errLong.Error()}
	}
	return fmt.Errorf("read the journal: %w", err)
}

// hollow reports a line of which a block did not reach the disk.
func hollow(line []byte) bool { return bytes.IndexByte(line, 0) >= 0 }

// lineBefore returns the line that ends at end.
func lineBefore(r io.ReaderAt, end int64) ([]byte, error) {
	if end == 0 {
		return nil, nil
	}
	start, err := lastBreak(r, end-1)
	if err != nil {
		return nil, err
	}
	if end-start > maxLine {
		return nil, errLong
	}
	line := make([]byte, end-start)
	_, err = r.ReadAt(line, start)
	return line, err
}
