package store

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Reopen goes on after [ErrUnsure]: it opens the file anew, proves it, and finds out whether the commit that
// the disk did not confirm was made, which a caller sees by the generation of what it put. Where the disk still
// fails the store stays as it was, and Reopen may be called again. Any other file than one of these two
// is [ErrDamaged], for good. On a store that is well it does nothing.
func (s *Store) Reopen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !errors.Is(s.err, ErrUnsure) {
		return s.err
	}
	key, err := s.rooted.Key()
	if err != nil {
		return err
	}
	defer clear(key)
	if err := s.db.Close(); err != nil { // waits for those who read
		return fmt.Errorf("%w: %w", ErrUnsure, err)
	}
	db, err := openFile(s.path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnsure, err)
	}
	found := &Store{path: s.path, db: db, rooted: s.rooted}
	err = found.prove(key)
	if err == nil && found.root != s.root && found.root != s.unsure {
		err = fmt.Errorf("the vTPM store: %w: it is of commit %d, and the last were %d and perhaps %d", ErrDamaged, found.root.sequence, s.root.sequence, s.unsure.sequence)
	}
	if err != nil {
		s.err = errors.Join(err, found.close())
		return s.err
	}
	if err := writeAnew(s.path); err != nil {
		return errors.Join(fmt.Errorf("%w: %w", ErrUnsure, err), found.close())
	}
	s.keys.wipe()
	s.db, s.keys, s.root, s.err = db, found.keys, found.root, nil
	return nil
}

// writeAnew has the disk take all of a file, as it reads, once more. After an fsync that failed, the kernel takes the
// pages that it lost for written, and the next fsync would confirm what is not there. The meta pages
// come last, so that they never lead to what is not there yet.
func writeAnew(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("write the vTPM store anew: %w", err)
	}
	defer f.Close()
	const metas = 2 * pageSize
	if err := copyOver(f, metas, 1<<62); err != nil {
		return fmt.Errorf("write the vTPM store anew: %w", err)
	}
	if err := copyOver(f, 0, metas); err != nil {
		return fmt.Errorf("write the vTPM store anew: %w", err)
	}
	return nil
}

// copyOver writes what stands from one place to another, or to the end, over itself.
func copyOver(f *os.File, from, to int64) error {
	b := make([]byte, 64*pageSize)
	for from < to {
		n, err := f.ReadAt(b[:min(int64(len(b)), to-from)], from)
		if n == 0 && errors.Is(err, io.EOF) {
			break
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, err := f.WriteAt(b[:n], from); err != nil {
			return err
		}
		from += int64(n)
	}
	return f.Sync()
}
