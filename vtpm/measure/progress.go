package measure

import (
	"io"
	"time"
)

// Progress hears how many bytes of how many are done. Each byte counts twice: once for its
// copy, once for its hashes.
type Progress func(done, total int64)

// between is how long a person waits without a word.
const between = 2 * time.Second

// pace counts what is read, and reports it now and then.
type pace struct {
	report      Progress
	now         func() time.Time
	last        time.Time
	done, total int64
}

func newPace(total int64, report Progress) *pace {
	return &pace{report: report, now: time.Now, last: time.Now(), total: total}
}

func (p *pace) reader(r io.Reader) io.Reader { return pacedReader{r, p} }

type pacedReader struct {
	r io.Reader
	p *pace
}

func (r pacedReader) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	r.p.count(int64(n))
	return n, err
}

func (p *pace) count(n int64) {
	p.done += n
	if p.report == nil {
		return
	}
	if now := p.now(); now.Sub(p.last) >= between {
		p.last = now
		p.report(p.done, max(p.done, p.total)) // the file may have grown
	}
}
