package vtpmhost

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/device"
)

// patiently does again what other programs at the TPM kept from being done, for as long as the TPM
// itself is waited for.
func (w Where) patiently(do func() error) error {
	for end, pause := time.Now().Add(w.Wait), 20*time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := do()
		if !errors.Is(err, tpm.ErrBusy) || time.Now().Add(pause).After(end) {
			return err
		}
		time.Sleep(pause)
	}
}

// shared lets several goroutines use one TPM: a command and its response belong together. A TPM that was
// gone for a while is opened again: its driver was bound anew, or its emulator started anew. Whether it is the same
// one, package seal looks before it hands it a key.
type shared struct {
	open func() (*device.Device, error)

	mu     sync.Mutex
	device *device.Device
	gone   bool
}

// Send sends one command. After an error nobody knows whether the TPM executed it, so it is not sent again
// here; the device is closed, with which a kernel gives back what was left in the TPM.
func (s *shared) Send(command []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		d, err := s.open()
		if err != nil {
			return nil, fmt.Errorf("open the TPM again, which was gone: %w", err)
		}
		if d.Version != s.device.Version {
			return nil, errors.Join(fmt.Errorf("the TPM was gone, and in its place is a %s", d.Version), d.Close())
		}
		s.device, s.gone = d, false
	}
	rsp, err := s.device.Send(command)
	if err != nil {
		s.gone = true
		err = errors.Join(err, s.device.Close())
	}
	return rsp, err
}

// Close gives the TPM back.
func (s *shared) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return nil
	}
	s.gone = true
	s.open = func() (*device.Device, error) { return nil, errors.New("it was closed") }
	return s.device.Close()
}

// path is the node or socket.
func (s *shared) path() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.device.Path
}
