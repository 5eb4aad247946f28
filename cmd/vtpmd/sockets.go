package main

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"

	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/manager"
	"github.com/antievilmaid/aem/vtpm/qemu"
)

// sockets are those that QEMU connects to, one for each vTPM whose policy has one.
type sockets struct {
	dir    string
	keeper vtpm.Keeper
	log    *slog.Logger
	ctx    context.Context

	mu      sync.Mutex
	open    map[vtpm.UUID]context.CancelFunc
	serving sync.WaitGroup
}

func newSockets(ctx context.Context, dir string, k vtpm.Keeper, log *slog.Logger) (*sockets, error) {
	s := &sockets{dir: dir, keeper: k, log: log, ctx: ctx, open: map[vtpm.UUID]context.CancelFunc{}}
	// Who may use a socket says the socket itself; the folder only has to be passed.
	return s, folder(dir, 0o711)
}

func (s *sockets) path(u vtpm.UUID) string { return filepath.Join(s.dir, u.String()+".sock") }

// serve opens a vTPM's socket.
func (s *sockets) serve(u vtpm.UUID, p manager.Policy) error {
	if p.QEMU == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[u] != nil {
		return nil
	}
	server, err := qemu.Listen(qemu.Config{Path: s.path(u), UUID: u, Keeper: s.keeper, User: *p.QEMU, Log: s.log})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(s.ctx)
	s.open[u] = cancel
	s.serving.Go(func() {
		if err := server.Serve(ctx); err != nil {
			s.log.Error("QEMU can't reach a vTPM any more", "vtpm", u.String(), "because", err)
		}
	})
	return nil
}

// close closes a vTPM's socket, if it has one.
func (s *sockets) close(u vtpm.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel := s.open[u]; cancel != nil {
		cancel()
		delete(s.open, u)
	}
}
