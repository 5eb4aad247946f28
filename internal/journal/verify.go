package journal

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// A Head stands for a journal up to one entry. The zero Head stands for a journal that
// was not yet begun.
type Head struct {
	Number uint64            // of the last entry; 0 is the first line
	Sum    [sha256.Size]byte // SHA-256 of its line
}

// HeadSize is the length of [Head.Bytes].
const HeadSize = 8 + sha256.Size

// Bytes are the number, big-endian, and the sum, for a place outside of the journal.
func (h Head) Bytes() []byte {
	return append(binary.BigEndian.AppendUint64(nil, h.Number), h.Sum[:]...)
}

// ParseHead reads what [Head.Bytes] gave.
func ParseHead(b []byte) (Head, error) {
	if len(b) != HeadSize {
		return Head{}, fmt.Errorf("the journal's head has %d bytes instead of %d", len(b), HeadSize)
	}
	return Head{binary.BigEndian.Uint64(b), [sha256.Size]byte(b[8:])}, nil
}

// Head says where the journal ends. Only the last line is read: a head says that this
// is the end, not that what stands before it is in order.
func (j *Journal) Head() (Head, error) {
	f, err := j.open(os.O_RDONLY, unix.LOCK_SH)
	if err != nil {
		return Head{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Head{}, fmt.Errorf("read the journal: %w", err)
	}
	t, err := readTail(f, info.Size())
	return t.last, err
}

// Verify goes through the whole journal. It returns a [*BrokenError] for the first line
// that does not continue the one before, or a [*TornError] for a last line that is
// not whole. A changed last line, and lines missing at the end, only [Journal.VerifyAgainst]
// finds.
func (j *Journal) Verify() error {
	_, err := j.VerifyAgainst(Head{})
	return err
}

// VerifyAgainst does what Verify does, and holds the journal against a head that was
// kept elsewhere. It returns how many entries were added since then. The error may join
// several: a [*TruncatedError] if the journal is shorter than it was, a [*RewrittenError]
// if it is another one, and those of Verify.
func (j *Journal) VerifyAgainst(known Head) (added uint64, err error) {
	var last uint64
	var wrong error
	same := known == Head{}
	for l := range j.lines() {
		if torn := (*TornError)(nil); !l.whole && !errors.As(l.err, &torn) {
			if errors.Is(l.err, fs.ErrNotExist) && !same {
				return 0, &TruncatedError{Known: known.Number}
			}
			return 0, errors.Join(wrong, l.err)
		}
		if wrong == nil {
			wrong = l.err
		}
		if l.whole {
			last = l.index
			same = same || l.index == known.Number && l.sum == known.Sum
		}
	}
	switch {
	case last < known.Number:
		return 0, errors.Join(&TruncatedError{known.Number, last}, wrong)
	case !same:
		return 0, errors.Join(&RewrittenError{known.Number}, wrong)
	}
	return last - known.Number, wrong
}
