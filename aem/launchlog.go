package aem

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/handover"
)

// slaunchLog is where Linux shows the log of its secure launch.
const slaunchLog = "/sys/kernel/security/slaunch/eventlog"

// maxLog bounds what is read of a log: the areas on machines have 8 to 256 KiB.
const maxLog = 4 << 20

// FindLog looks for the machine's launch log: where Linux shows it, then where
// drtmsim hands one over. It returns nil where there is none.
func FindLog() (*LaunchLog, error) {
	b, err := readFile(slaunchLog)
	if err == nil {
		return parseLog(b, slaunchLog), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	h, err := handover.Find()
	if errors.Is(err, handover.ErrNone) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if h.Platform == 0 {
		return nil, nil // the simulator was told not to launch
	}
	l := parseLog(h.Log, "drtmsim's hand-over")
	l.Simulated = true
	return l, nil
}

// ReadLog reads a log from a file.
func ReadLog(path string) (*LaunchLog, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return parseLog(b, path), nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the launch log: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxLog+1))
	if err != nil {
		return nil, fmt.Errorf("read the launch log in %s: %w", path, err)
	}
	if len(b) > maxLog {
		return nil, fmt.Errorf("the launch log in %s is longer than any launch leaves", path)
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
