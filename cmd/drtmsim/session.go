package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/tpm"
)

// session is one QEMU and one swtpm, with drtmsim between their control
// channels and between their data channels.
type session struct {
	sim  *simulator
	qemu *net.UnixConn
	ctl  *swtpm.Control

	// mu is held while a control request is passed on and during a launch, so
	// that none falls into the middle of a launch.
	mu       sync.Mutex
	locality tpm.Locality // as QEMU chose it

	channel sync.WaitGroup // the running data channel
	stop    func()         // ends it
}

// cause ends a session with the error that is its cause.
type cause = context.CancelCauseFunc

// serve passes everything on until QEMU disconnects, which is no error, or until
// swtpm or a launch fails. When it returns, nothing of the session is left.
func serve(ctx context.Context, sim *simulator, qemu *net.UnixConn, ctl *swtpm.Control) error {
	s := &session{sim: sim, qemu: qemu, ctl: ctl, stop: func() {}}
	ctx, fail := context.WithCancelCause(ctx)
	// Closing is what ends a read that waits; it may well happen twice.
	defer context.AfterFunc(ctx, func() {
		qemu.Close()
		ctl.Close()
	})()
	err := s.control(ctx, fail)
	// What failed first is the cause; what follows from it is not worth a word.
	fail(err)
	s.stop()
	s.channel.Wait()
	qemu.Close()
	ctl.Close()
	if first := context.Cause(ctx); !errors.Is(first, context.Canceled) {
		return first
	}
	return nil
}

// control passes control requests on.
func (s *session) control(ctx context.Context, fail cause) error {
	requests := swtpm.NewRequests(s.qemu)
	defer requests.Close()
	for {
		q, err := requests.Next()
		if err != nil {
			if gone(err) {
				return nil
			}
			return fmt.Errorf("QEMU's TPM control channel: %w", err)
		}
		rsp, err := s.request(ctx, fail, q)
		if err != nil {
			return err
		}
		if _, err := s.qemu.Write(rsp); err != nil {
			return nil // QEMU is gone
		}
	}
}

// request passes one request on and notes what a launch needs to know of it.
func (s *session) request(ctx context.Context, fail cause, q swtpm.Request) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.Command == swtpm.CmdSetDataFD {
		return s.openChannel(ctx, fail, q.File)
	}
	if q.Command == swtpm.CmdInit {
		if err := s.sim.prepare(); err != nil {
			return nil, err
		}
	}
	rsp, err := s.ctl.Transact(q.Bytes(), nil)
	if err != nil {
		return nil, fmt.Errorf("swtpm has ended, or its control channel broke: %w", err)
	}
	if len(rsp) < 4 || binary.BigEndian.Uint32(rsp) != 0 {
		return rsp, nil
	}
	switch q.Command {
	case swtpm.CmdSetLocality:
		s.locality = tpm.Locality(q.Payload[0])
	case swtpm.CmdInit:
		if err := s.sim.forget(); err != nil {
			return nil, err
		}
	}
	return rsp, nil
}

// openChannel takes QEMU's end of the data channel and gives swtpm another one.
func (s *session) openChannel(ctx context.Context, fail cause, end *os.File) ([]byte, error) {
	if end == nil {
		return nil, errors.New("QEMU opened the TPM's data channel without saying where its end is")
	}
	defer end.Close()
	near, err := net.FileConn(end)
	if err != nil {
		return nil, fmt.Errorf("take QEMU's end of the TPM's data channel: %w", err)
	}
	far, err := s.ctl.OpenData()
	if err != nil {
		near.Close()
		var refused *swtpm.ResultError
		if errors.As(err, &refused) {
			return binary.BigEndian.AppendUint32(nil, refused.Result), nil
		}
		return nil, fmt.Errorf("swtpm has ended, or its control channel broke: %w", err)
	}
	s.stop() // the channel that this one replaces
	ctx, stop := context.WithCancel(ctx)
	s.stop = stop
	context.AfterFunc(ctx, func() {
		near.Close()
		far.Close()
	})
	s.channel.Go(func() {
		defer stop()
		// Closed for certain when the session ends: swtpm refuses the next
		// session's data channel while it has this one.
		defer near.Close()
		defer far.Close()
		if err := s.commands(near, far); err != nil {
			fail(err)
		}
	})
	return make([]byte, 4), nil
}

// commands passes TPM commands on until QEMU closes its end. The firmware's
// start of the TPM is followed by the launch, and answered only then: what the
// guest does next, it does after the launch.
func (s *session) commands(near net.Conn, far *swtpm.Data) error {
	for {
		cmd, err := swtpm.ReadPacket(near)
		if err != nil {
			if gone(err) {
				return nil
			}
			return fmt.Errorf("QEMU's TPM data channel: %w", err)
		}
		rsp, err := far.Send(cmd)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil // closed by ourselves
			}
			return fmt.Errorf("swtpm has ended, or its data channel broke: %w", err)
		}
		if v, ok := startedFamily(cmd, rsp); ok {
			if err := s.started(far, v); err != nil {
				return fmt.Errorf("the launch did not succeed, and the guest is left without its TPM: %w", err)
			}
		}
		if _, err := near.Write(rsp); err != nil {
			return nil // QEMU is gone
		}
	}
}

// started launches. That happens once for each time that the TPM is powered on:
// a TPM that has been started refuses to be started again.
func (s *session) started(far *swtpm.Data, v tpm.Version) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sim.noLaunch {
		s.sim.say("not launched, as asked: %s", v)
		return nil
	}
	return s.sim.launch(s.ctl, newMeasurer(far, v), v, s.locality)
}

// gone tells that the other side, or we ourselves, closed the connection.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, unix.ECONNRESET)
}
