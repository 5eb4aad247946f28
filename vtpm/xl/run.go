package xl

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/antievilmaid/aem/vtpm/measure"
)

// The descriptors of xl's that lead to the guest's files, and those files' paths there.
const (
	configurationPath = "/proc/self/fd/3"
	kernelPath        = "/proc/self/fd/5" // 4 is the pipe
	initrdPath        = "/proc/self/fd/6"
)

// Run starts a guest by its configuration's absolute path. tell hears what is under way. It
// returns when xl has built the guest.
//
// xl stays behind to build the guest again when it reboots, of the same sealed files, which are xl's own
// descriptors. As long as it does so, each new guest counts as measured, also by the next vtpmd should this one die.
func (s *Starter) Run(path string, tell func(string)) error {
	m, err := s.measure(path, tell)
	if err != nil {
		return err
	}
	defer m.close()
	if err := s.create(m, tell); err != nil {
		m.prepared.Cancel()
		return err
	}
	return nil
}

// create hands what was measured to xl.
func (s *Starter) create(m *measured, tell func(string)) error {
	initrd := ""
	if m.initrd != nil {
		initrd = initrdPath
	}
	changed, err := m.configuration.With(kernelPath, initrd)
	if err != nil {
		return err
	}
	if m.changed, err = measure.SealBytes(m.configuration.Name, changed, algs[:1]); err != nil {
		return err
	}
	// Whoever builds the guest has the pipe's other end: what was prepared is over when he is gone.
	ours, held, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe for xl: %w", err)
	}
	defer held.Close()
	m.prepared.While(ours)
	files := []*os.File{m.changed.Memory(), held, m.kernel.Memory()}
	if m.initrd != nil {
		files = append(files, m.initrd.Memory())
	}
	tell("xl builds " + m.configuration.Name)
	if err := s.xl(files, "create", "-q", configurationPath); err != nil {
		if r := s.Manager.Refused(m.uuid); r != nil && time.Since(r.At) < time.Minute {
			return fmt.Errorf("%w; %s", err, r.Text)
		}
		return err
	}
	select {
	case <-m.prepared.Used():
	default:
		return fmt.Errorf("xl built the guest %s, and it never asked for the vTPM %s here; look at vtpm= in its configuration: the backend is the domain that vtpmd runs in", m.configuration.Name, m.uuid)
	}
	return nil
}

// ErrNoXL says that the toolstack is missing.
var ErrNoXL = errors.New("xl is not installed here, so no guest of Xen's can be started")

// xl runs xl to its end. What it said is in the error, in one line.
func (s *Starter) xl(files []*os.File, args ...string) error {
	_, err := s.output(files, args...)
	return err
}

// output is xl, with what it said where it did not fail.
func (s *Starter) output(files []*os.File, args ...string) (string, error) {
	program := s.Program
	if program == "" {
		program = "xl"
	}
	program, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoXL, err)
	}
	var said bytes.Buffer
	c := exec.Command(program, args...)
	c.Stdout, c.Stderr, c.ExtraFiles = &said, &said, files
	c.WaitDelay = 10 * time.Second // where what xl left behind keeps its output open
	err = c.Run()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return said.String(), nil
	}
	return "", fmt.Errorf("xl %s: %w: %s", args[0], err, cause(said.String()))
}

// cause is the first line in which xl or libxl says what went wrong. What follows is
// consequences.
func cause(said string) string {
	first := ""
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		if strings.Contains(strings.ToLower(line), "error") {
			return line
		}
		if first == "" {
			first = line
		}
	}
	if first == "" {
		return "it said nothing"
	}
	return first
}
