package aem

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/eventlog/cel"
	"github.com/antievilmaid/aem/internal/artifact"
	"github.com/antievilmaid/aem/internal/livelog"
	"github.com/antievilmaid/aem/tpm"
)

// LaunchLog is a launch log and where it was found.
type LaunchLog struct {
	Log    *eventlog.Log // empty where none was found
	Source string
	// Simulated says that no CPU made the launch.
	Simulated bool
	// Broken is the error at which the log's reader stopped.
	Broken error
	// Skipped are the places that hold no log although they should.
	Skipped []Skipped
	// OfGuest says that it is no launch's own: the host's vtpmd wrote it, of what it told a guest's TPM.
	OfGuest bool
}

// Skipped is a place where a log could not be read, and why.
type Skipped struct {
	Name   string `json:"name"`
	Reason string `json:"reason"`
}

// maxFile bounds what is read of a file: the largest is an initramfs with drivers.
const maxFile = 512 << 20

// FindLog looks for the log of this machine's launch, in all places that a platform
// may leave it. Where there is none, the log is empty, and what was tried is named.
func FindLog() (*LaunchLog, error) { return findLog(livelog.Machine{Root: "/"}) }

func findLog(m livelog.Machine) (*LaunchLog, error) {
	found, _, skipped := livelog.Find(m)
	l := &LaunchLog{Log: &eventlog.Log{}, Source: "none found"}
	if len(found) > 0 {
		best := found[0]
		l = parseLog(best.Bytes, best.Name)
		l.Simulated = best.Simulated
		if best.RoomKnown {
			l.Log.SetRoom(best.Room)
		}
		if best.Alg != 0 {
			joinPerAlg(l, found)
		}
	}
	for _, s := range skipped {
		if !s.Absent {
			l.Skipped = append(l.Skipped, Skipped{s.Name, s.Reason})
		}
	}
	return l, nil
}

// joinPerAlg joins the logs of older modules, which keep one for each algorithm.
func joinPerAlg(l *LaunchLog, found []livelog.Found) {
	logs := []*eventlog.Log{l.Log}
	for _, f := range found[1:] {
		if f.Alg == 0 || f.Source != found[0].Source {
			continue
		}
		more := parseLog(f.Bytes, f.Name)
		l.Broken = errors.Join(l.Broken, more.Broken)
		logs = append(logs, more.Log)
	}
	joined, err := eventlog.Join(logs)
	if err != nil {
		l.Broken = errors.Join(l.Broken, err)
		return
	}
	l.Log = joined
}

// ErrNoLog says that a file is no measurement log.
var ErrNoLog = errors.New("this file is no measurement log")

// FindOrReadLog reads the log in a file, or finds this machine's where path is empty.
func FindOrReadLog(path string) (*LaunchLog, error) {
	if path == "" {
		return FindLog()
	}
	return ReadLog(path)
}

// ReadLog reads a log from a file: any format of package eventlog, a canonical
// event log, or the image of a TXT heap. The error wraps [ErrNoLog] for other files.
func ReadLog(path string) (*LaunchLog, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	kind := artifact.Identify(b, true)
	switch kind {
	case artifact.EventLog, artifact.Empty:
		l := parseLog(b, path)
		l.OfGuest = toldByHost(l.Log)
		return l, nil
	case artifact.CELTLV, artifact.CELCBOR, artifact.CELJSON:
		return readCanonical(kind, b, path)
	case artifact.Heap:
		logs, err := artifact.HeapLogs(b, 0)
		if len(logs) == 0 {
			return nil, errors.Join(fmt.Errorf("%w: %s is a TXT heap without one", ErrNoLog, path), err)
		}
		l := &LaunchLog{Log: logs[0], Source: path, Broken: err}
		if len(logs) > 1 {
			if joined, err := eventlog.Join(logs); err == nil {
				l.Log = joined
			}
		}
		return l, nil
	}
	return nil, fmt.Errorf("%w: %s is: %s", ErrNoLog, path, kind)
}

func readCanonical(kind artifact.Kind, b []byte, path string) (*LaunchLog, error) {
	read := map[artifact.Kind]func([]byte) ([]cel.Record, error){artifact.CELTLV: cel.ReadTLV, artifact.CELCBOR: cel.ReadCBOR, artifact.CELJSON: cel.ReadJSON}[kind]
	records, broken := read(b)
	log, err := cel.ToLog(records)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("read the canonical log in %s: %w", path, err), broken)
	}
	return &LaunchLog{Log: log, Source: path, Broken: broken}, nil
}

// Artifact is a file of a launch, and what it is.
type Artifact struct {
	Kind    artifact.Kind
	Content []byte
}

// ReadArtifact reads a file and tells what it is.
func ReadArtifact(path string) (*Artifact, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return &Artifact{artifact.Identify(b, true), b}, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%w: %s is longer than any launch leaves", ErrNoLog, path)
	}
	return b, nil
}

// parseLog keeps what could be read of a damaged log, and the damage.
func parseLog(b []byte, source string) *LaunchLog {
	log, err := eventlog.Parse(b)
	if log == nil {
		log = &eventlog.Log{}
	}
	return &LaunchLog{Log: log, Source: source, Broken: err}
}

// strongest is the digest to show of several: SHA-256 where it is among them.
func strongest(list []tpm.TaggedDigest) string {
	if d := tpm.Find(list, tpm.SHA256); d != nil {
		return d.String()
	}
	if len(list) > 0 {
		return list[len(list)-1].Digest.String()
	}
	return ""
}
