package testbed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/tpm"
)

// Shared is a TPM that several programs use, as a driver without a resource manager lets them: one
// command at a time, and what one of them leaves in the TPM takes the others' room.
type Shared struct {
	Version tpm.Version

	mu      sync.Mutex
	chip    *swtpm.TPM
	between Between
}

// Between sees a command before the TPM does, and answers in its place where it returns a
// response or an error. pass has the TPM execute a command.
type Between func(cmd []byte, pass func([]byte) ([]byte, error)) ([]byte, error)

// NewShared shares a TPM. Nobody else may use it meanwhile.
func NewShared(chip *swtpm.TPM, v tpm.Version) *Shared { return &Shared{chip: chip, Version: v} }

// Send sends a command of one of the programs.
func (s *Shared) Send(cmd []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.between != nil {
		if rsp, err := s.between(cmd, s.chip.Send); rsp != nil || err != nil {
			return rsp, err
		}
	}
	return s.chip.Send(cmd)
}

// SetBetween puts somebody between all programs and the TPM; nil takes him away.
func (s *Shared) SetBetween(b Between) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.between = b
}

// Refusal is a response without parameters.
func (s *Shared) Refusal(code uint32) []byte {
	tag := uint16(0x8001)
	if s.Version == tpm.V12 {
		tag = 0xc4
	}
	return packet(tag, code, nil)
}

// Left lists the keys and sessions that are in the TPM for the time being.
func (s *Shared) Left() (list []uint32, err error) {
	ask, handles := packet(0x8001, 0x17a, []byte{0, 0, 0, 1}), 19 // TPM_CAP_HANDLES, of
	kinds := []uint32{0x80000000, 0x02000000, 0x03000000}         // objects; sessions, loaded and saved
	if s.Version == tpm.V12 {
		ask, handles = packet(0xc1, 0x65, []byte{0, 0, 0, 0x14, 0, 0, 0, 4}), 16 // TPM_CAP_HANDLE, of
		kinds = []uint32{1, 2, 4}                                                // TPM_RT_KEY, AUTH, TRANS
	}
	for _, kind := range kinds {
		cmd := binary.BigEndian.AppendUint32(slices.Clone(ask), kind)
		if s.Version == tpm.V20 {
			cmd = append(cmd, 0, 0, 0, 64)
		}
		binary.BigEndian.PutUint32(cmd[2:], uint32(len(cmd)))
		rsp, err := s.chipSend(cmd)
		if err != nil {
			return nil, err
		}
		if len(rsp) < handles || (len(rsp)-handles)%4 != 0 {
			return nil, fmt.Errorf("the list of handles is %x", rsp)
		}
		for b := rsp[handles:]; len(b) > 0; b = b[4:] {
			list = append(list, binary.BigEndian.Uint32(b))
		}
	}
	return list, nil
}

// Flush gives places back, as the kernel's resource manager does when a program closes the device.
func (s *Shared) Flush(list []uint32) error {
	for _, h := range list {
		cmd := packet(0x8001, 0x165, binary.BigEndian.AppendUint32(nil, h))
		if s.Version == tpm.V12 {
			cmd = packet(0xc1, 0xba, append(binary.BigEndian.AppendUint32(nil, h), 0, 0, 0, 2)) // TPM_RT_AUTH
		}
		if _, err := s.chipSend(cmd); err != nil {
			return err
		}
	}
	return nil
}

// chipSend sends past whoever is between, and demands success.
func (s *Shared) chipSend(cmd []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rsp, err := s.chip.Send(cmd)
	if err == nil && (len(rsp) < 10 || binary.BigEndian.Uint32(rsp[6:]) != 0) {
		err = fmt.Errorf("command %x was answered with %x", cmd[6:10], rsp)
	}
	return rsp, err
}

// The commands by which a neighbour takes places: a session that nothing is needed for, and, with a TPM 2.0, a
// hash sequence, which takes an object's place.
func (s *Shared) takers() [][]byte {
	if s.Version == tpm.V12 {
		return [][]byte{packet(0xc1, 0x0a, nil)} // TPM_OIAP
	}
	session := slices.Concat([]byte{0x40, 0, 0, 7, 0x40, 0, 0, 7, 0, 16}, make([]byte, 16), []byte{0, 0, 0, 0, 0x10, 0, 0x0b})
	return [][]byte{packet(0x8001, 0x176, session), packet(0x8001, 0x186, []byte{0, 0, 0, 0x0b})}
}

// Fill takes all places for objects and sessions that are left, as another program may. empty gives
// them back.
func (s *Shared) Fill() (empty func() error, err error) { return s.Take(1 << 16) }

// Take takes so many places of each kind, as far as there are any. back gives them back.
func (s *Shared) Take(n int) (back func() error, err error) {
	var taken []uint32
	for _, cmd := range s.takers() {
		for range n {
			s.mu.Lock()
			rsp, err := s.chip.Send(cmd)
			s.mu.Unlock()
			if err != nil {
				return nil, err
			}
			if len(rsp) < 14 || binary.BigEndian.Uint32(rsp[6:]) != 0 {
				break
			}
			taken = append(taken, binary.BigEndian.Uint32(rsp[10:]))
		}
	}
	return func() error { return s.Flush(taken) }, nil
}

// Serve lets programs connect to path as to swtpm's control socket, until the test or the returned
// function ends it, and cuts off those that are connected.
func (s *Shared) Serve(t testing.TB, path string) (cut func()) {
	t.Helper()
	l, err := swtpm.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var ended bool
	var open []net.Conn
	var serving sync.WaitGroup
	keep := func(c net.Conn) bool {
		mu.Lock()
		defer mu.Unlock()
		if ended {
			c.Close()
			return false
		}
		open = append(open, c)
		return true
	}
	serving.Go(func() {
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			if keep(conn) {
				serving.Go(func() { s.control(conn, keep, &serving) })
			}
		}
	})
	cut = sync.OnceFunc(func() {
		l.Close()
		mu.Lock()
		ended = true
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		serving.Wait()
	})
	t.Cleanup(cut)
	return cut
}

// control answers on a control connection.
func (s *Shared) control(conn *net.UnixConn, keep func(net.Conn) bool, serving *sync.WaitGroup) {
	defer conn.Close()
	requests := swtpm.NewRequests(conn)
	defer requests.Close()
	for {
		r, err := requests.Next()
		if err != nil {
			return
		}
		answer := []byte{0, 0, 0, swtpm.ResultBadOrdinal} // its power is not the programs'
		if r.File != nil {
			data, err := net.FileConn(r.File)
			if err = errors.Join(err, r.File.Close()); err != nil || !keep(data) {
				return
			}
			serving.Go(func() { s.data(data) })
			answer[3] = swtpm.ResultSuccess
		}
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

// data answers on a data channel. An error in a command's place ends it.
func (s *Shared) data(conn net.Conn) {
	defer conn.Close()
	for {
		cmd, err := swtpm.ReadPacket(conn)
		if err != nil {
			return
		}
		rsp, err := s.Send(cmd)
		if err != nil {
			return
		}
		if _, err := conn.Write(rsp); err != nil {
			return
		}
	}
}
