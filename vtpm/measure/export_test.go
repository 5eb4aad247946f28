package measure

import (
	"io"
	"time"

	"github.com/antievilmaid/aem/tpm"
)

// SealReader is Seal for something else than a file.
func SealReader(r io.Reader, limit int64, algs []tpm.Alg) (*Artefact, error) {
	return seal("reader", r, limit, algs, newPace(0, nil))
}

// ReadPaced reads r to its end, with a clock of the test's own.
func ReadPaced(r io.Reader, total int64, now func() time.Time, report Progress) error {
	p := newPace(total, report)
	p.now, p.last = now, now()
	_, err := io.Copy(io.Discard, p.reader(r))
	return err
}
