package eventlog

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/antievilmaid/aem/internal/wire"
	"github.com/antievilmaid/aem/tpm"
)

var le = binary.LittleEndian

// Signatures that tell the formats apart.
const (
	signatureAgile     = "Spec ID Event03\x00"
	signatureSpec12    = "Spec ID Event00\x00"
	signatureEFI12     = "Spec ID Event02\x00"
	signaturePerAlg    = "FRMT ID EVENT00\x00"
	signatureContainer = "TXT Event Container\x00"
)

// Sizes of fixed parts, in bytes.
const (
	header12      = 32 // PCR, type, SHA-1 digest, length of the data
	containerSize = 48
	specFixed     = 24 // signature, class, versions, in a Spec ID event's data
	pointerSize   = 20 // u64 address, u32 allocated, first, next
)

// Limits against logs that claim to be huge.
const (
	maxDigests = 16
	maxEvents  = 1 << 20
)

// Parse reads a log, whose format it recognises by its structure. Where the log
// is malformed it returns what stands before that, and a [*SyntaxError]: the
// prefix may still explain the PCRs, but it is not the log that was written.
//
// Memory that was never written follows most logs; zeros, or ones, up to the end
// are no events and no error.
func Parse(b []byte) (*Log, error) {
	p := &parser{b: b, log: &Log{Format: TCG12}}
	if err := p.header(); err != nil {
		p.log.Truncated, p.log.tail = true, b
		return p.log, err
	}
	for !p.done() {
		if err := p.event(); err != nil {
			if p.readOn(err) {
				continue
			}
			p.log.Truncated = true
			p.log.tail = p.b[p.off:]
			return p.log, err
		}
	}
	p.log.tail = p.b[p.off:]
	if p.wrongEnd != nil {
		p.log.Truncated = true
		return p.log, p.wrongEnd
	}
	return p.log, nil
}

// readOn goes on behind the end that the log declares, where that end lies inside a
// record and so can't be true. What is read then is shown, and the log stays
// malformed.
func (p *parser) readOn(err *SyntaxError) bool {
	if p.wrongEnd != nil || p.end == len(p.b) {
		return false
	}
	p.wrongEnd = &SyntaxError{err.Offset, err.Event, fmt.Sprintf("the log says that its events end at offset %d, inside this one", p.end)}
	p.setEnd(len(p.b))
	return true
}

// parser walks over the bytes. end is where records end by the log's own word;
// it is the end of the bytes where the log does not say.
type parser struct {
	b       []byte
	off     int
	end     int
	log     *Log
	digests []tpm.TaggedDigest // backing for the events' lists
	// wrongEnd says that the end that the log declares can't be true.
	wrongEnd *SyntaxError
	// written is where the last byte ends that is not zero, or not 0xff: memory
	// that was never written holds the one or the other.
	written [2]int
}

func (p *parser) fail(format string, args ...any) *SyntaxError {
	return &SyntaxError{Offset: p.off, Event: len(p.log.Events), Reason: fmt.Sprintf(format, args...)}
}

// header recognises the format and sets where the events begin and end.
func (p *parser) header() error {
	p.end = len(p.b)
	if len(p.b) == 0 {
		return p.fail("the log is empty")
	}
	if bytes.HasPrefix(p.b, []byte(signatureContainer)) {
		p.log.Format = TXT12Container
		return p.container(0)
	}
	if len(p.b) < header12 || Type(le.Uint32(p.b[4:])) != NoAction {
		return p.begin(0)
	}
	size := uint64(le.Uint32(p.b[28:]))
	if size > uint64(len(p.b)-header12) {
		return p.fail("the first event claims %d bytes of data and %d are there", size, len(p.b)-header12)
	}
	data := p.b[header12 : header12+int(size)]
	next := header12 + int(size)
	switch {
	case bytes.HasPrefix(data, []byte(signatureAgile)):
		return p.agile(data, next)
	case bytes.HasPrefix(data, []byte(signatureSpec12)), bytes.HasPrefix(data, []byte(signatureEFI12)):
		return p.spec12(data, next)
	case bytes.HasPrefix(data, []byte(signaturePerAlg)):
		return p.perAlg(p.b)
	}
	return p.begin(0) // an informative event, such as StartupLocality, of a log without a header
}

// begin sets the first event's place and makes room for the usual number of events.
func (p *parser) begin(off int) error {
	if p.log.Algs == nil {
		p.log.Algs = []AlgSize{{tpm.SHA1, 20}}
	}
	p.off = off
	p.setEnd(p.end)
	p.log.head = p.b[:off]
	// A record has 38 bytes at least, and most have far more; what a log claims of
	// itself is not asked.
	n := min((p.end-off)/64+1, 4096)
	p.log.Events = make([]Event, 0, n)
	p.digests = make([]tpm.TaggedDigest, 0, n*len(p.log.Algs))
	return nil
}

// setEnd sets where records end at the latest.
func (p *parser) setEnd(end int) {
	p.end = end
	p.written = [2]int{trim(p.b[:end], 0), trim(p.b[:end], 0xff)}
}

// agile reads a "Spec ID Event03" header (TCG PFP, clause 10.4.5.1).
func (p *parser) agile(data []byte, next int) error {
	p.log.Format = CryptoAgile
	if len(data) < specFixed+4 {
		return p.fail("the Spec ID event ends before its list of algorithms")
	}
	n := le.Uint32(data[specFixed:])
	rest := data[specFixed+4:]
	if n == 0 || n > maxDigests || uint64(n)*4+1 > uint64(len(rest)) {
		return p.fail("the Spec ID event claims %d algorithms", n)
	}
	p.log.Algs = make([]AlgSize, n)
	for i := range p.log.Algs {
		a := AlgSize{tpm.Alg(le.Uint16(rest[4*i:])), le.Uint16(rest[4*i+2:])}
		if known := a.Alg.Size(); known != 0 && known != int(a.Size) {
			return p.fail("the Spec ID event gives digests of %s %d bytes", a.Alg, a.Size)
		}
		if _, twice := p.log.size(a.Alg, i); twice {
			return p.fail("the Spec ID event lists %s twice", a.Alg)
		}
		p.log.Algs[i] = a
	}
	vendor := rest[4*n:]
	if int(vendor[0]) > len(vendor)-1 {
		return p.fail("the Spec ID event claims %d bytes of vendor information and has %d", vendor[0], len(vendor)-1)
	}
	p.log.VendorInfo = vendor[1 : 1+int(vendor[0])]
	if used, ok := sklUsed(p.log.VendorInfo); ok {
		p.log.bounded = true
		if used > uint64(len(p.b)) || used < uint64(next) {
			p.wrongEnd = p.fail("the log claims to use %d of its memory's bytes, and %d are there", used, len(p.b))
		} else {
			p.end = int(used)
		}
	}
	return p.begin(next)
}

// sklUsed recognises the Secure Kernel Loader's vendor information, which says
// where the log lies and how much of it is used.
func sklUsed(vendor []byte) (used uint64, ok bool) {
	if len(vendor) != pointerSize {
		return 0, false
	}
	address, allocated, next := le.Uint64(vendor), le.Uint32(vendor[8:]), le.Uint32(vendor[16:])
	if address%4096 != 0 || next > allocated {
		return 0, false
	}
	return uint64(next), true
}

// spec12 reads the header of a TPM 1.2 log. SKL puts a container's header into
// its vendor information.
func (p *parser) spec12(data []byte, next int) error {
	if len(data) >= specFixed+1 {
		vendor := data[specFixed+1:]
		if n := int(data[specFixed]); n <= len(vendor) {
			p.log.VendorInfo = vendor[:n]
		}
	}
	if bytes.HasPrefix(p.log.VendorInfo, []byte(signatureContainer)) {
		p.log.Format = SKL12
		return p.container(header12 + specFixed + 1)
	}
	return p.begin(next)
}

// container reads a "TXT Event Container" at an offset (TXT SDG, appendix G.1).
// Its own offsets count from its beginning.
func (p *parser) container(at int) error {
	if len(p.b)-at < containerSize {
		return p.fail("the event container's header has %d bytes, not %d", len(p.b)-at, containerSize)
	}
	h := p.b[at:]
	first, next := uint64(le.Uint32(h[40:])), uint64(le.Uint32(h[44:]))
	if first < containerSize || first > uint64(len(h)) {
		return p.fail("the event container says that its events begin at %d of its %d bytes", first, len(h))
	}
	p.log.bounded = true
	if next < first || next > uint64(len(h)) {
		p.wrongEnd = p.fail("the event container says that its events lie from %d to %d of its %d bytes", first, next, len(h))
	} else {
		p.end = at + int(next)
	}
	return p.begin(at + int(first))
}

// perAlg reads the header of a log in one algorithm (TXT SDG, appendix G.2).
func (p *parser) perAlg(b []byte) error {
	data := b[header12:]
	if len(data) < 28 || le.Uint32(b[28:]) != 28 {
		return p.fail("the log's format header has another length than 28 bytes")
	}
	algs := map[uint32]tpm.Alg{1: tpm.SHA1, 2: tpm.SHA256, 3: tpm.SHA384, 4: tpm.SHA512}
	alg, size := algs[le.Uint32(data[20:])], le.Uint32(data[24:])
	if alg == 0 || int64(size) != int64(alg.Size()) {
		return p.fail("the log's format header names algorithm %d with %d bytes", le.Uint32(data[20:]), size)
	}
	p.log.Format, p.log.Algs = TXTPerAlg, []AlgSize{{alg, uint16(size)}}
	return p.begin(header12 + 28)
}

// size is the declared digest length of an algorithm, among the first n declared.
func (l *Log) size(a tpm.Alg, n int) (int, bool) {
	for _, d := range l.Algs[:n] {
		if d.Alg == a {
			return int(d.Size), true
		}
	}
	return 0, false
}

// done reports whether no event follows: the log's end, or unwritten memory up to it.
func (p *parser) done() bool {
	return p.off >= p.written[0] || p.off >= p.written[1]
}

// trim returns the length of b without the fill bytes at its end.
func trim(b []byte, fill byte) int {
	n := len(b)
	for n > 0 && b[n-1] == fill {
		n--
	}
	return n
}

// event reads one record.
func (p *parser) event() *SyntaxError {
	if len(p.log.Events) == maxEvents {
		return p.fail("there are more than %d events", maxEvents)
	}
	r := wire.NewReader(p.b[p.off:p.end])
	e := Event{PCR: tpm.PCR(r.U32()), Type: Type(r.U32()), Offset: p.off}
	first := len(p.digests)
	if p.log.Format == CryptoAgile {
		count := r.U32()
		if r.Short() || count == 0 || count > uint32(len(p.log.Algs)) {
			return p.fail("it claims %d digests, and the log has %d banks", count, len(p.log.Algs))
		}
		for range count {
			alg := tpm.Alg(r.U16())
			size, ok := p.log.size(alg, len(p.log.Algs))
			if r.Short() || !ok {
				return p.fail("it has a digest in %s, a bank that the log does not declare", alg)
			}
			if tpm.Find(p.digests[first:], alg) != nil {
				return p.fail("it has two digests in %s", alg)
			}
			p.digests = append(p.digests, tpm.TaggedDigest{Alg: alg, Digest: r.Bytes(uint32(size))})
		}
	} else {
		a := p.log.Algs[0]
		p.digests = append(p.digests, tpm.TaggedDigest{Alg: a.Alg, Digest: r.Bytes(uint32(a.Size))})
	}
	e.Digests = p.digests[first:len(p.digests):len(p.digests)]
	size := r.U32()
	left := r.Left()
	if e.Data = r.Bytes(size); r.Short() {
		return p.fail("it claims %d bytes of data, and %d are left", size, left)
	}
	p.log.Events = append(p.log.Events, e)
	p.off += r.Offset()
	return nil
}
