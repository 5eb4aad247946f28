package journal

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/durable"
)

// fileName is the journal in its folder.
const fileName = "journal"

// A Journal is the journal of one folder. It holds no file open and may be used by
// several goroutines; several programs may write to one journal.
type Journal struct {
	dir, path string
}

// Open says in which folder, which must exist, the journal is. Nothing is written
// before the first Append, which also begins the journal. A reader of a journal that
// does not exist gets [io/fs.ErrNotExist]: it may never have been begun, or be gone.
func Open(dir string) (*Journal, error) {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		err = unix.ENOTDIR
	}
	if err != nil {
		return nil, fmt.Errorf("open the journal's folder %s: %w", dir, err)
	}
	return &Journal{dir, filepath.Join(dir, fileName)}, nil
}

// Append adds an entry; its number is given here. When Append returns nil the entry
// is on the disk. After an error it is not in the journal, as far as that could be
// undone: on a disk that fails, a torn line may stay behind. It waits for other
// writers, each of which takes as long as the disk does. [ErrEntry] is an entry that
// the journal can't keep. A journal whose last line is
// damaged is not continued: that is a [*BrokenError].
func (j *Journal) Append(e Entry) error {
	e, err := e.normal()
	if err != nil {
		return err
	}
	// Long before it is known which number it gets.
	if len(encode(e, [sha256.Size]byte{})) > maxLine-20 {
		return fmt.Errorf("%w: %w", ErrEntry, errLong)
	}
	f, err := j.open(os.O_RDWR|os.O_CREATE|os.O_APPEND, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	t, err := readTail(f, info.Size())
	if err != nil {
		return err
	}
	w := &writer{f, t.end, t.last}
	var aside *Entry
	if t.torn > 0 {
		if aside, err = j.setAside(f, t); err != nil {
			return err
		}
	}
	if t.none {
		if err := j.begin(w); err != nil {
			return err
		}
	}
	if aside != nil {
		if err := w.append(*aside); err != nil {
			return err
		}
	}
	return w.append(e)
}

// begin writes the first line. The name of the file must be on the disk too, before
// anybody is told that an entry is.
func (j *Journal) begin(w *writer) error {
	id := make([]byte, idSize)
	rand.Read(id)
	if err := w.write(header{Format: formatName, Version: formatVersion, ID: hex.EncodeToString(id)}.line()); err != nil {
		return err
	}
	if err := durable.Sync(j.dir); err != nil {
		return fmt.Errorf("write to the journal's folder: %w", err)
	}
	return nil
}

// setAside moves a torn line to a file of its own. The sum in the name keeps two of
// them apart, and makes a second try after a power cut write the same file again.
func (j *Journal) setAside(f *os.File, t tail) (*Entry, error) {
	torn := make([]byte, t.torn)
	if _, err := f.ReadAt(torn, t.end); err != nil {
		return nil, fmt.Errorf("read the torn line of the journal: %w", err)
	}
	var number uint64 // that the line would have had
	if !t.none {
		number = t.last.Number + 1
	}
	sum := sha256.Sum256(torn)
	name := fmt.Sprintf("%s.%d.%x.torn", fileName, number, sum[:4])
	if err := durable.Write(filepath.Join(j.dir, name), torn, nil); err != nil {
		return nil, fmt.Errorf("keep the torn line of the journal: %w", err)
	}
	if err := errors.Join(f.Truncate(t.end), f.Sync()); err != nil {
		return nil, fmt.Errorf("take the torn line out of the journal: %w", err)
	}
	e, err := Entry{
		Kind:    Torn,
		Text:    "a torn last line was set aside: power failed while it was written, or the file was cut",
		Details: map[string]string{"file": name, "bytes": strconv.FormatInt(t.torn, 10), "sha256": hex.EncodeToString(sum[:])},
	}.normal()
	return &e, err
}

// writer adds lines at the end of the locked file.
type writer struct {
	f    *os.File
	end  int64
	last Head
}

func (w *writer) append(e Entry) error {
	e.Number = w.last.Number + 1
	if err := w.write(encode(e, w.last.Sum)); err != nil {
		return err
	}
	w.last.Number = e.Number
	return nil
}

// write puts one line on the disk before it returns, so that a power cut can only
// tear the last one.
func (w *writer) write(line []byte) error {
	_, err := w.f.Write(line)
	if err = errors.Join(err, w.f.Sync()); err != nil {
		return fmt.Errorf("write to the journal: %w", errors.Join(err, w.f.Truncate(w.end)))
	}
	w.end += int64(len(line))
	w.last.Sum = sha256.Sum256(line)
	return nil
}
