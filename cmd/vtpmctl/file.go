package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/antievilmaid/aem/internal/durable"
)

// writeNew makes a file for its owner alone that is whole, or not there. One that is there already is left
// alone. It returns its length.
func writeNew(path string, write func(io.Writer) error) (bytes int64, err error) {
	if _, err := os.Lstat(path); err == nil {
		return 0, fmt.Errorf("%s is there already", path)
	}
	part := path + ".part"
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(part) // where it was not renamed
	defer f.Close()
	if err := write(f); err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err = cmp.Or(err, f.Sync(), f.Close()); err == nil {
		if err = os.Rename(part, path); err == nil {
			err = durable.Sync(filepath.Dir(path))
		}
	}
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", path, err)
	}
	return info.Size(), nil
}
