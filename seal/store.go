package seal

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/antievilmaid/aem/internal/durable"
	"github.com/antievilmaid/aem/tpm"
)

// maxRecord bounds what is read of a file. A record has a few kilobytes.
const maxRecord = 1 << 20

const (
	namePrefix = "record-"
	nameSuffix = ".aem"
)

func fileName(generation uint64) string {
	return fmt.Sprintf("%s%016x%s", namePrefix, generation, nameSuffix)
}

// Stored is a record file of a store, read into memory so that the medium can be
// gone before anything is done with it.
type Stored struct {
	Generation uint64 // by the file's name
	Bytes      []byte
}

// generations lists the records in a folder by their files' names, the newest first.
func generations(folder fs.FS) ([]uint64, error) {
	entries, err := fs.ReadDir(folder, ".")
	if err != nil {
		return nil, fmt.Errorf("read the folder of records: %w", err)
	}
	var list []uint64
	for _, e := range entries {
		hex := strings.TrimSuffix(strings.TrimPrefix(e.Name(), namePrefix), nameSuffix)
		if g, err := strconv.ParseUint(hex, 16, 64); err == nil && e.Name() == fileName(g) {
			list = append(list, g)
		}
	}
	slices.SortStableFunc(list, func(a, b uint64) int { return cmp.Compare(b, a) })
	return list, nil
}

// Read reads all records of a folder, the newest first. [ErrNoRecord] says that
// there are none.
func Read(folder fs.FS) ([]Stored, error) {
	list, err := generations(folder)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(list) == 0 {
		return nil, ErrNoRecord
	}
	if err != nil {
		return nil, err
	}
	var records []Stored
	for _, g := range list {
		b, err := readBounded(folder, fileName(g))
		if err != nil {
			return nil, err
		}
		records = append(records, Stored{g, b})
	}
	return records, nil
}

func readBounded(folder fs.FS, name string) ([]byte, error) {
	f, err := folder.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open the record %s: %w", name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return nil, fmt.Errorf("read the record %s: %w", name, err)
	}
	return b, nil // one that is too long fails its checksum
}

// Choose returns the record of the present generation: the one whose number is
// the counter's. Where none is, the newest is returned, whose opening then says
// why it does not open. The counter is asked through open, which gives the
// backend for a record's anchor.
//
// Leftovers of a sealing that was cut short stand beside the good record; a
// damaged leftover must not hide it.
func Choose(list []Stored, open func(*Record) (Backend, error)) (*Record, Backend, error) {
	var firstErr error
	var newest *Record
	var newestBackend Backend
	for _, s := range list {
		rec, err := Parse(s.Bytes)
		if err == nil && rec.Generation != s.Generation {
			err = fmt.Errorf("%w: by its name it is generation %d, and it says %d", ErrDamaged, s.Generation, rec.Generation)
		}
		var b Backend
		if err == nil {
			b, err = open(rec)
		}
		if err != nil {
			firstErr = cmp.Or(firstErr, err)
			continue
		}
		if len(list) == 1 {
			return rec, b, nil
		}
		now, err := b.Generation()
		if err != nil {
			firstErr = cmp.Or(firstErr, err)
			continue
		}
		if rec.Generation == now {
			return rec, b, nil
		}
		if newest == nil {
			newest, newestBackend = rec, b
		}
	}
	if newest != nil {
		return newest, newestBackend, nil
	}
	return nil, nil, firstErr
}

// Step is a point in a commit before which, and after which, the power may fail.
type Step string

// The steps, in order. Up to StepRehearsed the old generation opens, from
// StepAdvanced on the new one; the counter's move between them is the commit.
const (
	StepWritten   Step = "new generation written beside the old"
	StepSynced    Step = "new generation on the medium"
	StepRenamed   Step = "new generation under its name"
	StepRehearsed Step = "new generation opened on trial"
	StepAdvanced  Step = "counter moved"
	StepCleaned   Step = "old generation removed"
)

// Commit makes r the record of a folder: r must be sealed to the generation after
// the counter's. actual are the PCRs' values now; where one of r's states has
// them, the rehearsal includes the PCRs. credential is what the backend demands
// for moving its counter. at, if not nil, is told each step that was done.
//
// Nothing is removed before its successor opens. When an error is returned, the
// generation that opened before opens still, unless the error says otherwise.
func Commit(dir string, b Backend, r *Record, actual tpm.Banks, credential []byte, at func(Step)) error {
	if at == nil {
		at = func(Step) {}
	}
	now, err := b.Generation()
	if err != nil {
		return err
	}
	if r.Generation != now+1 {
		return fmt.Errorf("the record is for generation %d, and the next is %d", r.Generation, now+1)
	}
	written := map[durable.Step]Step{durable.Written: StepWritten, durable.Synced: StepSynced}
	path := filepath.Join(dir, fileName(r.Generation))
	if err := durable.Write(path, r.Bytes(), func(s durable.Step) { at(written[s]) }); err != nil {
		return fmt.Errorf("write the new record beside the old, which still opens: %w", err)
	}
	at(StepRenamed)
	if err := b.Rehearse(r, r.Match(actual)); err != nil {
		os.Remove(filepath.Join(dir, fileName(r.Generation)))
		return fmt.Errorf("the new record does not open on trial and was removed; the old one still opens: %w", err)
	}
	at(StepRehearsed)
	if err := b.Advance(now, credential); err != nil {
		return fmt.Errorf("the counter did not move; the old record still opens: %w", err)
	}
	at(StepAdvanced)
	if err := removeOthers(dir, r.Generation); err != nil {
		return fmt.Errorf("the new record is in force; an old one, which no longer opens, could not be removed: %w", err)
	}
	at(StepCleaned)
	return nil
}

func removeOthers(dir string, keep uint64) error {
	list, err := generations(os.DirFS(dir))
	if err != nil {
		return err
	}
	for _, g := range list {
		if g != keep {
			if err := os.Remove(filepath.Join(dir, fileName(g))); err != nil {
				return err
			}
		}
	}
	return durable.Sync(dir)
}
