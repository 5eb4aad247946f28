package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/store"
)

// commits times the commit of a vTPM's state in a store of n, beside a bare write and
// fdatasync of one page on the same disk.
func commits(dir string, n int) error {
	// In memory first: to add many, nobody has to wait for the disk.
	memory, err := os.MkdirTemp("/dev/shm", "aem-fig-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(memory)
	r := &root{}
	path := filepath.Join(memory, "vtpms")
	if err := fill(path, r, n); err != nil {
		return err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	path = filepath.Join(dir, fmt.Sprint("commits-", n))
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return err
	}
	s, err := store.Open(path, r)
	if err != nil {
		return err
	}
	defer s.Close()
	disk, err := os.Create(filepath.Join(dir, "page"))
	if err != nil {
		return err
	}
	defer disk.Close()
	began := r.epoch
	var took, bare []float64
	page := make([]byte, 4096)
	for i := range 300 {
		u := numbered(i * 7919 % n)
		start := time.Now()
		if err := s.PutState(u, uint64(i/n)+2, make([]byte, 1404)); err != nil {
			return err
		}
		took = append(took, float64(time.Since(start).Microseconds()))
		start = time.Now()
		if _, err := disk.WriteAt(page, 0); err != nil {
			return err
		}
		if err := disk.Sync(); err != nil {
			return err
		}
		bare = append(bare, float64(time.Since(start).Microseconds()))
	}
	fmt.Printf("| a commit among %d records: time, writes to the TPM's NV memory | %s µs, %d |\n", n, spread(took), r.epoch-began)
	fmt.Printf("| a page written and synced meanwhile, without any store | %s µs |\n", spread(bare))
	return nil
}

// fill makes a store with states of a fresh swtpm's size.
func fill(path string, r *root, n int) error {
	if err := store.Create(path, r); err != nil {
		return err
	}
	s, err := store.Open(path, r)
	if err != nil {
		return err
	}
	born := time.Now()
	for i := range n {
		err := s.Add(&store.Record{
			UUID: numbered(i), Family: tpm.V20, Key: bytes.Repeat([]byte{1}, store.KeySize), Created: born, Changed: born,
			Name: fmt.Sprint("guest ", i), State: make([]byte, 1404),
		})
		if err != nil {
			s.Close()
			return err
		}
	}
	return s.Close()
}

func numbered(i int) vtpm.UUID {
	return vtpm.UUID(tpm.SHA256.Sum(binary.BigEndian.AppendUint32(nil, uint32(i)))[:16])
}
