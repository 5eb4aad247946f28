package store

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	bolt "go.etcd.io/bbolt"

	"github.com/antievilmaid/aem/internal/durable"
	"github.com/antievilmaid/aem/vtpm"
)

// Store is an open store. Its methods may be called from several goroutines; the
// values they return are the caller's.
type Store struct {
	path   string
	db     *bolt.DB
	rooted Root
	epochs sync.Mutex // held while the counter moves, which takes a TPM's time

	mu   sync.RWMutex // held for reading while a transaction begins, for writing while one commits
	keys *keys
	root rootRecord // the newest: what the file says must lead to it
	// The commits that wrote the newest epoch, and the newest that the counter has confirmed.
	wrote, began uint64
	err          error      // why nothing is answered any more
	unsure       rootRecord // of the commit that is [ErrUnsure]
	stuck        bool       // bbolt gave up in the middle of a commit and holds its locks
}

// Create makes an empty store, which Open then opens. Where there is a file already it
// is left alone: [ErrExists]. The counter moves, so that a copy of an earlier
// store that stood in this place is dead.
func Create(path string, root Root) error {
	return build(path, root, func(*Store) error { return nil })
}

// build makes a store beside its place, has it filled, and puts it there.
func build(path string, root Root, fill func(*Store) error) (err error) {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("make the vTPM store %s: %w", path, ErrExists)
	}
	key, err := root.Key()
	if err != nil {
		return err
	}
	defer clear(key)
	now, err := root.Epoch()
	if err != nil {
		return err
	}
	temp := ""
	defer func() {
		if temp != "" {
			os.Remove(temp)
		}
	}()
	s := &Store{rooted: root}
	s.db, err = bolt.Open(path, 0o600, options(func(string, int, os.FileMode) (*os.File, error) {
		f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*")
		if err == nil {
			temp = f.Name()
		}
		return f, err
	}))
	if err != nil {
		return fmt.Errorf("make the vTPM store: %w", err)
	}
	defer s.close()
	if s.root.key, err = keyName(key); err != nil {
		return err
	}
	rand.Read(s.root.store[:])
	s.root.epoch = now + 1
	if s.keys, err = newKeys(key, s.root.store); err != nil {
		return err
	}
	if err := s.db.Update(s.plant); err != nil {
		return fmt.Errorf("make the vTPM store: %w", err)
	}
	if err := fill(s); err != nil {
		return err
	}
	// A link refuses where somebody was faster; a rename would replace what is there.
	if err := os.Link(temp, path); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the vTPM store %s: %w", path, ErrExists)
	} else if err != nil {
		return fmt.Errorf("make the vTPM store: %w", err)
	}
	if err := errors.Join(os.Remove(temp), durable.Sync(filepath.Dir(path))); err != nil {
		return fmt.Errorf("make the vTPM store: %w", err)
	}
	temp = ""
	if err := root.Advance(now); err != nil {
		return fmt.Errorf("the vTPM store is made and its epoch not begun yet; opening it tries again: %w", err)
	}
	return nil
}

// plant puts an empty tree and the first root record into a new file.
func (s *Store) plant(tx *bolt.Tx) error {
	b, err := tx.CreateBucket([]byte(bucketName))
	if err != nil {
		return err
	}
	t := &tree{b: b}
	if s.root.top, err = t.save(&node{}); err != nil {
		return err
	}
	return s.putRoot(b, &s.root)
}

func (s *Store) putRoot(b *bolt.Bucket, r *rootRecord) error {
	key := s.keys.derive(labelRoot, vtpm.UUID{})
	defer clear(key)
	return b.Put([]byte(keyRoot), r.encode(key))
}

// Open takes a store into use: it proves the root, compares the epoch with the counter and
// begins the next one. It never makes a store: [ErrMissing].
//
// The errors [ErrBusy], [ErrDamaged], [ErrOtherRoot], [ErrRolledBack] and [ErrAhead] say why a
// store is refused. What is wrong with a single vTPM is found when it is read.
func Open(path string, root Root) (*Store, error) {
	key, err := root.Key()
	if err != nil {
		return nil, err
	}
	defer clear(key)
	db, err := openFile(path)
	if err != nil {
		return nil, err
	}
	s := &Store{path: path, db: db, rooted: root}
	if err := s.prove(key); err != nil {
		return nil, errors.Join(err, s.close())
	}
	if err := s.begin(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// prove reads the root record and authenticates it.
func (s *Store) prove(key []byte) error {
	return protect(func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			b := tx.Bucket([]byte(bucketName))
			if b == nil {
				return fmt.Errorf("the vTPM store: %w: it is empty", ErrDamaged)
			}
			r, k, err := openRoot(b.Get([]byte(keyRoot)), key)
			if err == nil {
				s.root, s.wrote, s.keys = *r, r.sequence, k
			}
			return err
		})
	})
}

// commit makes one transaction: what it changes in the tree is durable when it returns
// nil, and not there when it returns an error other than [ErrUnsure].
func (s *Store) commit(change func(*tree, *rootRecord) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	next := s.root
	next.sequence++
	decided := false // whether what was asked could be done, and the rest is the disk's
	err := protect(func() error {
		// Not bbolt's Update, which rolls back after a panic, too: it would follow all pages
		// of a file that has just contradicted itself, in a goroutine that nothing protects.
		tx, err := s.db.Begin(true)
		if err != nil {
			return err
		}
		b := tx.Bucket([]byte(bucketName))
		t := &tree{b: b, top: s.root.top}
		if err := change(t, &next); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		next.top = t.top
		decided = true
		if err := s.putRoot(b, &next); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		return tx.Commit()
	})
	var broke *brokeError
	switch {
	case err == nil:
		s.root = next
	case errors.As(err, &broke):
		s.err, s.stuck = err, true
	case decided:
		err = fmt.Errorf("write the vTPM store: %w", err)
		if !s.unchanged() {
			s.err, s.unsure = fmt.Errorf("%w: %w", ErrUnsure, err), next
			return s.err
		}
	}
	return err
}

// unchanged looks, after a commit that reported an error, whether the file is as it was. After a
// failed fsync it may hold the new root without the disk having it.
func (s *Store) unchanged() bool {
	same := false
	err := protect(func() error {
		return s.db.View(func(tx *bolt.Tx) error {
			key := s.keys.derive(labelRoot, vtpm.UUID{})
			defer clear(key)
			same = bytes.Equal(tx.Bucket([]byte(bucketName)).Get([]byte(keyRoot)), s.root.encode(key))
			return nil
		})
	})
	return err == nil && same
}

// read runs a reader on the newest commit. Commits go on meanwhile.
func (s *Store) read(f func(*tree, rootRecord) error) error {
	return protect(func() error {
		s.mu.RLock()
		if s.err != nil {
			defer s.mu.RUnlock()
			return s.err
		}
		root := s.root
		tx, err := s.db.Begin(false)
		s.mu.RUnlock()
		if err != nil {
			return fmt.Errorf("read the vTPM store: %w", err)
		}
		defer tx.Rollback()
		return f(&tree{b: tx.Bucket([]byte(bucketName)), top: root.top}, root)
	})
}

// Fault is why the store answers nothing; nil where it does. Where it wraps [ErrUnsure], [Store.Reopen] may
// help, else only a new start.
func (s *Store) Fault() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.err
}

// Epoch is the store's newest. The counter's, which [Root] reads, may be one behind.
func (s *Store) Epoch() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.root.epoch
}

// Count is the number of vTPMs.
func (s *Store) Count() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.root.count
}

// Close ends the epoch, if there was a commit in it, and gives the file back. After an
// orderly Close the file is the only one that opens.
func (s *Store) Close() error {
	s.mu.RLock()
	closed, usable := errors.Is(s.err, ErrClosed), s.err == nil
	s.mu.RUnlock()
	if closed {
		return nil
	}
	var err error
	// Twice where the last epoch's second step failed before: then the first makes up for it, and
	// the commits since are of that epoch.
	for i := 0; i < 2 && usable && err == nil && s.Changed(); i++ {
		err = s.NextEpoch()
	}
	return errors.Join(err, s.close())
}

func (s *Store) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = ErrClosed
	if s.stuck {
		return nil // the file stays locked until the process ends
	}
	err := s.db.Close() // waits for those who read
	if s.keys != nil {
		s.keys.wipe()
	}
	return err
}
