package vtpmhost

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/antievilmaid/aem/internal/durable"
	"github.com/antievilmaid/aem/vtpm/root"
	"github.com/antievilmaid/aem/vtpm/store"
)

// beside is the name under which something is kept that made room.
func (m *Machine) beside(path string) string {
	return path + ".before-" + m.Now().UTC().Format("20060102T150405Z")
}

// Restore puts a backup in the store's place. The store that was there is moved aside, and its
// new name is returned, empty where there was none.
func (m *Machine) Restore(from string) (aside string, err error) {
	r, err := m.OpenRoot()
	if err != nil {
		return "", err
	}
	defer r.Close()
	key, err := r.Key()
	if err != nil {
		return "", err
	}
	defer clear(key)
	path := m.Store()
	if exists(path) {
		aside = m.beside(path)
		if err := os.Rename(path, aside); err != nil {
			return "", fmt.Errorf("move the present store aside: %w", err)
		}
	}
	if err = store.Restore(path, r, from, key); err != nil && aside != "" {
		// Nothing was restored, so what was there is to be there again.
		err = errors.Join(err, os.Rename(aside, path))
		aside = ""
	}
	return aside, err
}

// Recover seals the store's key for this boot, and for those that the machine's own set-up approves, with
// the escrow: on the TPM that the store rests on, where its key does not open or is lost. The store stays as it is.
func (m *Machine) Recover(escrow []byte, static bool) error {
	p, err := m.present(static)
	if err != nil {
		return err
	}
	r, err := root.Recover(m.rootDir(), m.Chip, escrow, p)
	if err == nil {
		r.Close()
	}
	return err
}

// ErrHere says that a store is not to be moved to the TPM that it is on.
var ErrHere = errors.New("the store rests on this TPM")

// Moved is what a store was moved to.
type Moved struct {
	ID    root.ID
	Aside []string // what was in its place and is kept under these names
}

// Move takes a store to this machine's TPM: the one in its place, which may have come with the disk, or a backup. All
// that can be proved without the TPM is proved before it is asked; until everything is made, nothing that was there
// is touched.
func (m *Machine) Move(escrow []byte, from string, static bool, owner []byte) (moved Moved, err error) {
	if from == "" {
		from = m.Store()
	}
	id, key, err := root.Escrowed(escrow)
	if err != nil {
		return moved, err
	}
	defer clear(key)
	if err := store.Check(from, key); err != nil {
		return moved, err
	}
	if root.Here(m.Chip, escrow) {
		return moved, ErrHere
	}
	p, err := m.present(static)
	if err != nil {
		return moved, err
	}
	dir, err := os.MkdirTemp(m.where.State, "moved-*")
	if err != nil {
		return moved, fmt.Errorf("make room for the store: %w", err)
	}
	defer os.RemoveAll(dir)
	if err := m.build(dir, escrow, key, from, p, owner); err != nil {
		return moved, err
	}
	moved.ID = id
	for _, place := range []string{m.rootDir(), m.Store()} {
		if exists(place) {
			aside := m.beside(place)
			if err := os.Rename(place, aside); err != nil {
				return moved, fmt.Errorf("put the store in its place: %w", err)
			}
			moved.Aside = append(moved.Aside, aside)
		}
		if err := os.Rename(filepath.Join(dir, filepath.Base(place)), place); err != nil {
			return moved, fmt.Errorf("put the store in its place: %w", err)
		}
	}
	return moved, durable.Sync(m.where.State)
}

// build makes root and store in a folder, on a counter of their own. It takes the counter back where it fails:
// a TPM has room for a few.
func (m *Machine) build(dir string, escrow, key []byte, from string, p root.Policy, owner []byte) (err error) {
	backend, credential, err := m.ProvisionBeside(m.home(), owner)
	if err != nil {
		return ownSetUp(fmt.Errorf("prepare the TPM: %w", err))
	}
	defer clear(credential)
	defer func() {
		if err != nil {
			err = errors.Join(err, backend.Remove(credential))
		}
	}()
	r, err := root.Transfer(filepath.Join(dir, filepath.Base(m.rootDir())), m.Chip, backend, credential, escrow, p)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := store.Restore(filepath.Join(dir, filepath.Base(m.Store())), r, from, key); err != nil {
		return err
	}
	return durable.Sync(dir)
}
