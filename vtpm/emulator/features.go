package emulator

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"

	"github.com/antievilmaid/aem/tpm"
)

// features is what a swtpm says of itself (--print-capabilities). Versions and builds differ.
type features []string

func probe(swtpm string) (features, error) {
	out, err := exec.Command(swtpm, "socket", "--print-capabilities").Output()
	if err != nil {
		return nil, fmt.Errorf("ask %s what it can do: %w", swtpm, err)
	}
	var said struct{ Features features }
	if err := json.Unmarshal(out, &said); err != nil {
		return nil, fmt.Errorf("read what %s can do: %w", swtpm, err)
	}
	if !slices.Contains(said.Features, "cmdarg-key-fd") {
		return nil, errors.New("this swtpm takes no key by descriptor, only from a file: swtpm 0.5 or newer is needed")
	}
	return said.Features, nil
}

// emulates reports whether it knows a family of TPMs. Before swtpm 0.7 it did not say, and knew both.
func (f features) emulates(v tpm.Version) bool {
	name := map[tpm.Version]string{tpm.V12: "tpm-1.2", tpm.V20: "tpm-2.0"}
	if !slices.Contains(f, name[tpm.V12]) && !slices.Contains(f, name[tpm.V20]) {
		return name[v] != ""
	}
	return slices.Contains(f, name[v])
}

// filtersCalls reports whether it can deny itself system calls (seccomp(2)).
func (f features) filtersCalls() bool { return slices.Contains(f, "cmdarg-seccomp") }
