package bench

import (
	"bytes"
	"errors"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// Input is a log that all readers are given. It has no name, so that a [Rule] can
// only speak of what the log is like.
type Input struct {
	Log []byte
	// Launched says whether PCRs 17 to 22 started as zeros: whether a dynamic launch
	// took place. Only package eventlog can be told.
	Launched bool

	parsed *eventlog.Log
	broken *eventlog.SyntaxError // nil where package eventlog reads the log to its end
}

// NewInput takes a log for one of a dynamic launch where it has events that a
// launch alone can explain.
func NewInput(log []byte) *Input {
	in := &Input{Log: log}
	var err error
	in.parsed, err = eventlog.Parse(log)
	errors.As(err, &in.broken)
	for i := range in.parsed.Events {
		e := &in.parsed.Events[i]
		in.Launched = in.Launched || e.Extended() && e.PCR.Dynamic()
	}
	return in
}

// events counts what was extended into a PCR, and of that what has a digest for
// the bank.
func (in *Input) events(p tpm.PCR, alg tpm.Alg) (all, inBank int) {
	for i := range in.parsed.Events {
		if e := &in.parsed.Events[i]; e.PCR == p && e.Extended() {
			all++
			if tpm.Find(e.Digests, alg) != nil {
				inBank++
			}
		}
	}
	return all, inBank
}

// end is where the last event ends, by package eventlog.
func (in *Input) end() int {
	if len(in.parsed.Events) == 0 {
		return in.headerEnd()
	}
	e := in.parsed.Events[len(in.parsed.Events)-1]
	size := 12 + len(e.Data) // PCR, type, length of the data
	if in.agile() {
		size += 4
	}
	for _, d := range e.Digests {
		size += len(d.Digest)
		if in.agile() {
			size += 2
		}
	}
	return e.Offset + size
}

func (in *Input) headerEnd() int {
	if in.parsed.Format == eventlog.TCG12 || len(in.Log) < 32 {
		return 0
	}
	return 32 + int(le.Uint32(in.Log[28:]))
}

// agile reports whether records hold lists of digests.
func (in *Input) agile() bool { return in.parsed.Format == eventlog.CryptoAgile }

// filler is how many bytes follow the last event of a log in one of the formats
// that all readers know, where all of them are fill.
func (in *Input) filler(fill byte) int {
	if !in.agile() && in.parsed.Format != eventlog.TCG12 {
		return 0
	}
	rest := in.Log[min(in.end(), len(in.Log)):]
	if in.broken != nil || bytes.Count(rest, []byte{fill}) != len(rest) {
		return 0
	}
	return len(rest)
}

// header returns the data of the record with which the log begins, where it is an
// informative one.
func (in *Input) header() (data []byte, ok bool) {
	if len(in.Log) < 32 || eventlog.Type(le.Uint32(in.Log[4:])) != eventlog.NoAction {
		return nil, false
	}
	rest := in.Log[32:]
	return rest[:min(uint64(le.Uint32(in.Log[28:])), uint64(len(rest)))], true
}

var agileSignature = []byte("Spec ID Event03\x00")

func (in *Input) any(is func(*eventlog.Event) bool) bool {
	for i := range in.parsed.Events {
		if is(&in.parsed.Events[i]) {
			return true
		}
	}
	return false
}

// emptyRecord is the length of a record whose fields are all zero.
func (in *Input) emptyRecord() int {
	if in.agile() {
		return 16
	}
	return 32
}

// declared are the banks as a crypto agile header lists them, also where it is wrong.
func (in *Input) declared() (list []eventlog.AlgSize) {
	data, _ := in.header()
	if !bytes.HasPrefix(data, agileSignature) || len(data) < 28 {
		return nil
	}
	for rest := data[28:]; len(rest) >= 4 && len(list) < int(le.Uint32(data[24:])); rest = rest[4:] {
		list = append(list, eventlog.AlgSize{Alg: tpm.Alg(le.Uint16(rest)), Size: le.Uint16(rest[2:])})
	}
	return list
}

// size is the declared length of a bank's digests, or 0.
func (in *Input) size(a tpm.Alg) int {
	for _, d := range in.declared() {
		if d.Alg == a {
			return int(d.Size)
		}
	}
	return 0
}

// declaredEnd is where the used part of a log ends by the 20 bytes of vendor
// information that the Secure Kernel Loader writes.
func (in *Input) declaredEnd() (end int, ok bool) {
	data, _ := in.header()
	vendor := 28 + 4*len(in.declared())
	if len(data) != vendor+21 || data[vendor] != 20 {
		return 0, false
	}
	end = int(le.Uint32(data[vendor+17:]))
	return end, end <= len(in.Log)
}

// brokenRecord lists the algorithms of the record at which package eventlog
// stopped, up to the first whose length is not known.
func (in *Input) brokenRecord() (algs []tpm.Alg, ok bool) {
	if in.broken == nil || !in.agile() || in.broken.Offset == 0 || in.broken.Offset+12 > len(in.Log) {
		return nil, false
	}
	rest := in.Log[in.broken.Offset:]
	count := le.Uint32(rest[8:])
	for rest = rest[12:]; uint32(len(algs)) < count && len(rest) >= 2; {
		alg := tpm.Alg(le.Uint16(rest))
		algs = append(algs, alg)
		size := in.size(alg)
		if size == 0 || 2+size > len(rest) {
			break
		}
		rest = rest[2+size:]
	}
	return algs, true
}

// sha1PCRs are the PCRs that somebody sees who takes the bytes for SHA-1 records.
func (in *Input) sha1PCRs() (list []tpm.PCR) {
	for rest := in.Log; len(rest) >= 32; {
		list = append(list, tpm.PCR(le.Uint32(rest)))
		size := uint64(le.Uint32(rest[28:]))
		if size > uint64(len(rest)-32) {
			break
		}
		rest = rest[32+size:]
	}
	return list
}

// twice reports whether two elements have the same algorithm.
func twice[T any](list []T, alg func(T) tpm.Alg) bool {
	seen := map[tpm.Alg]bool{}
	for _, x := range list {
		if seen[alg(x)] {
			return true
		}
		seen[alg(x)] = true
	}
	return false
}
