// Package durable writes files that a power cut leaves whole: as they were before,
// or as they were to be.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// Step is a point in a write before which, and after which, the power may fail.
type Step uint8

// The steps, in order. Before the file has its name, the old one stands there.
const (
	Written Step = iota + 1 // beside the old file
	Synced                  // and on the disk
)

// Write replaces a file. at, if not nil, is told each step that was done. After
// an error the old file is as it was, and a full disk has its space back.
func Write(path string, content []byte, at func(Step)) (err error) {
	if at == nil {
		at = func(Step) {}
	}
	temp := path + ".tmp"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(temp)
		}
	}()
	if _, err = f.Write(content); err == nil {
		at(Written)
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	at(Synced)
	if err := os.Rename(temp, path); err != nil {
		return err
	}
	return Sync(filepath.Dir(path))
}

// Sync puts a folder's list of names on the disk.
func Sync(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
