package debian

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/testbed"
)

// Launch asks for a dynamic launch at each start of a machine.
type Launch struct {
	Platform drtm.Platform
	// Loader is the file with the loader that the CPU hashes. Empty: drtmsim's own.
	Loader string
}

// simulator is a running drtmsim.
type simulator struct {
	process *exec.Cmd
	listen  string // the socket for QEMU's TPM
	shared  string // the file with the launch's log
	mu      sync.Mutex
	said    bytes.Buffer
	drained chan struct{} // closed when it has said its last
}

// startSimulator starts drtmsim in front of an emulated TPM. dir's path is short,
// because sockets are made in it.
func startSimulator(dir, emulator string, l *Launch, n *Next) (*simulator, error) {
	program, err := testbed.Program("./cmd/drtmsim")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "drtmsim")
	if err := os.WriteFile(path, program, 0o700); err != nil {
		return nil, err
	}
	s := &simulator{listen: filepath.Join(dir, "sim"), shared: filepath.Join(dir, "handover"), drained: make(chan struct{})}
	args := append([]string{"--listen", s.listen, "--swtpm", emulator, "--handover", s.shared, "--platform", l.Platform.Name()}, n.Args()...)
	if l.Loader != "" {
		args = append(args, "--loader", l.Loader)
	}
	s.process = exec.Command(path, args...)
	out, err := s.process.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	ready := make(chan bool, 1)
	go s.listenTo(out, ready)
	if !<-ready {
		s.stop()
		return nil, fmt.Errorf("drtmsim ended: %s", s.messages())
	}
	return s, nil
}

// listenTo keeps what drtmsim says. It is ready when it says that it waits for QEMU.
func (s *simulator) listenTo(out io.Reader, ready chan<- bool) {
	defer close(s.drained)
	defer close(ready)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		s.mu.Lock()
		s.said.WriteString(lines.Text() + "\n")
		s.mu.Unlock()
		if strings.Contains(lines.Text(), "waiting for QEMU") {
			ready <- true
		}
	}
}

func (s *simulator) messages() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said.String()
}

func (s *simulator) stop() {
	s.process.Process.Kill()
	<-s.drained
	s.process.Wait()
}
