package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/antievilmaid/aem/tpm"
)

// TPM2Eventlog is the program tpm2_eventlog of tpm2-tools.
type TPM2Eventlog struct{}

// patience is far more than the program needs: it takes 10 ms for a large log.
const patience = 20 * time.Second

// Name is the program's name.
func (TPM2Eventlog) Name() string { return "tpm2_eventlog" }

// Read runs the program and reads the YAML that it prints.
func (TPM2Eventlog) Read(in *Input) Reading {
	out, err := runEventlog(in.Log)
	if err != nil {
		exit := (*exec.ExitError)(nil)
		return Reading{Err: err, Crashed: errors.As(err, &exit) && !exit.Exited()}
	}
	r := Reading{Replayed: map[Register]tpm.Digest{}}
	inPCRs, alg := false, tpm.Alg(0)
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, len(out)+1) // a firmware volume's name may be one line of a megabyte
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "  PCRIndex:"):
			r.Events++
		case strings.HasPrefix(line, "  SpecID:"):
			r.Events-- // the header's own record, which others don't count
		case line == "pcrs:":
			inPCRs = true
		case inPCRs:
			r.Err = readPCR(line, &alg, r.Replayed)
		}
		if r.Err != nil {
			return r
		}
	}
	return r
}

// readPCR reads a line of the list of PCRs: a bank's name, or a PCR and its value.
func readPCR(line string, alg *tpm.Alg, into map[Register]tpm.Digest) (err error) {
	key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
	if value = strings.TrimSpace(value); value == "" {
		*alg, err = tpm.ParseAlg(key)
		return err
	}
	pcr, err := strconv.Atoi(strings.TrimSpace(key))
	if err != nil {
		return fmt.Errorf("read the program's list of PCRs at %q: %w", line, err)
	}
	into[Register{tpm.PCR(pcr), *alg}], err = hex.DecodeString(strings.TrimPrefix(value, "0x"))
	return err
}

func runEventlog(log []byte) ([]byte, error) {
	f, err := os.CreateTemp("", "aem-log-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(log); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "tpm2_eventlog", f.Name())
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		first, _, _ := strings.Cut(stderr.String(), "\n")
		return nil, fmt.Errorf("%w: %s", err, first)
	}
	return out, nil
}
