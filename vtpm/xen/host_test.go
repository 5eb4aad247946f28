package xen_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/domctl"
	"github.com/antievilmaid/aem/internal/xenstore"
	"github.com/antievilmaid/aem/internal/xenstore/storetest"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/xen"
)

type words = [1024]uint32

// host is a host with Xen's toolstack, in memory.
type host struct {
	t         testing.TB
	store     *storetest.Store
	toolstack *xenstore.Conn
	keeper    *keeper
	log       lockedBuffer

	mu      sync.Mutex
	granted map[[2]uint32]*words
	offered map[[2]uint32]*bell
	mapped  int // pages that the backend holds
	domains map[uint32]domctl.Domain
	end     func() error // ends the backend
}

func newHost(t testing.TB) *host {
	h := &host{
		t: t, store: storetest.New(), keeper: &keeper{sessions: map[string]*session{}, refuse: map[string]error{}},
		granted: map[[2]uint32]*words{}, offered: map[[2]uint32]*bell{}, domains: map[uint32]domctl.Domain{},
	}
	h.toolstack = h.store.Connect()
	return h
}

// start starts a backend, as a new process would.
func (h *host) start() {
	store := h.store.Connect()
	b := &xen.Backend{
		Keeper: h.keeper, Log: slog.New(slog.NewTextHandler(&h.log, nil)), Store: store, Boot: "boot",
		Map: h.grant, Bind: h.bind,
		Ask: func(domain uint32) (domctl.Domain, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			d, ok := h.domains[domain]
			if !ok {
				return d, unix.ESRCH
			}
			return d, nil
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 1)
	go func() { over <- b.Serve(ctx) }()
	h.end = func() error {
		cancel()
		err := <-over
		store.Close()
		return err
	}
}

// stop ends the backend and says what it left behind.
func (h *host) stop() {
	h.t.Helper()
	if err := h.end(); err != nil {
		h.t.Errorf("the backend ended with %v", err)
	}
	if h.mapped != 0 {
		h.t.Errorf("%d pages are still mapped", h.mapped)
	}
	h.toolstack.Close()
}

func (h *host) grant(domain, reference uint32) (xen.Page, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w, ok := h.granted[[2]uint32{domain, reference}]
	if !ok {
		return nil, fmt.Errorf("map grant %d of domain %d: %w", reference, domain, unix.EINVAL)
	}
	h.mapped++
	return &page{h: h, w: w}, nil
}

type page struct {
	h *host
	w *words
}

func (p *page) Words() *words { return p.w }

func (p *page) Close() error {
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	p.h.mapped--
	p.w = nil
	return nil
}

func (h *host) bind(domain, port uint32) (xen.Channel, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b, ok := h.offered[[2]uint32{domain, port}]
	if !ok || !b.bind() {
		return nil, fmt.Errorf("bind event channel %d of domain %d: %w", port, domain, unix.EINVAL)
	}
	return b, nil
}

// bell is an event channel: after it rang it is deaf until it is unmasked.
type bell struct {
	mu                           sync.Mutex
	cond                         *sync.Cond
	pending, masked, bound, gone bool
	heard, answered              int
}

func newBell() *bell {
	b := &bell{}
	b.cond = sync.NewCond(&b.mu)
	return b
}

func (b *bell) bind() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	ok := !b.bound
	b.bound, b.gone, b.pending, b.masked = true, false, false, false
	return ok
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending = true
	b.cond.Broadcast()
}

func (b *bell) Wait() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for !b.gone && (!b.pending || b.masked) {
		b.cond.Wait()
	}
	if b.gone {
		return os.ErrClosed
	}
	b.pending, b.masked = false, true
	b.heard++
	return nil
}

func (b *bell) Unmask() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.masked = false
	b.cond.Broadcast()
	return nil
}

func (b *bell) Notify() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answered++
	return nil
}

func (b *bell) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bound, b.gone = false, true
	b.cond.Broadcast()
	return nil
}

func (b *bell) counts() (heard, answered int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.heard, b.answered
}

const uuid = "11111111-2222-3333-4444-555555555502"

// guest is a domain with a vTPM.
type guest struct {
	h      *host
	domain uint32
	page   *words
	bell   *bell
	ref    uint32
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// build builds a domain that has not run yet.
func (h *host) build(domain uint32) *guest {
	h.t.Helper()
	handle, err := vtpm.ParseUUID(fmt.Sprintf("aaaaaaaa-0000-0000-0000-%012x", domain))
	h.must(err)
	h.mu.Lock()
	h.domains[domain] = domctl.Domain{Handle: handle, Paused: true}
	h.mu.Unlock()
	h.store.Introduce(domain, true)
	h.must(h.toolstack.Write(fmt.Sprintf("/local/domain/%d/vm", domain), "/vm/"+handle.String()))
	h.must(h.toolstack.Write("/vm/"+handle.String()+"/start_time", "100.00"))
	return &guest{h: h, domain: domain, ref: 8}
}

func (g *guest) back(key string) string { return fmt.Sprintf("backend/vtpm/%d/0/%s", g.domain, key) }
func (g *guest) front(key string) string {
	return fmt.Sprintf("/local/domain/%d/device/vtpm/0/%s", g.domain, key)
}

// attach has the toolstack add a vTPM, as libxl does.
func (g *guest) attach(changes map[string]string) {
	g.h.t.Helper()
	g.h.must(g.h.toolstack.Transaction(func(tx *xenstore.Tx) error { return g.attachIn(tx, changes) }))
}

func (g *guest) attachIn(tx *xenstore.Tx, changes map[string]string) error {
	back := map[string]string{
		"frontend": strings.TrimSuffix(g.front(""), "/"), "frontend-id": fmt.Sprint(g.domain), "online": "1", "state": "1",
		"handle": "0", "uuid": uuid, "resume": "False",
	}
	private := maps.Clone(back)
	maps.Copy(back, changes)
	var errs []error
	for k, v := range private {
		errs = append(errs, tx.Write(fmt.Sprintf("/libxl/%d/device/vtpm/0/%s", g.domain, k), v))
	}
	for k, v := range map[string]string{"backend": "/local/domain/0/" + strings.TrimSuffix(g.back(""), "/"), "backend-id": "0", "state": "1", "handle": "0"} {
		errs = append(errs, tx.Write(g.front(k), v))
	}
	for k, v := range back {
		errs = append(errs, tx.Write(g.back(k), v))
	}
	return errors.Join(errs...)
}

// remove has the toolstack remove the vTPM's nodes.
func (g *guest) remove() {
	g.h.t.Helper()
	g.h.must(g.h.toolstack.Transaction(g.removeIn))
}

func (g *guest) removeIn(tx *xenstore.Tx) error {
	return errors.Join(tx.Remove(fmt.Sprintf("backend/vtpm/%d", g.domain)), tx.Remove(fmt.Sprintf("/libxl/%d", g.domain)),
		tx.Remove(fmt.Sprintf("/local/domain/%d/device", g.domain)))
}

// share has the guest make a page and a bell, and write where they are.
func (g *guest) share() {
	g.h.t.Helper()
	g.ref++
	g.page, g.bell = new(words), newBell()
	at := [2]uint32{g.domain, g.ref}
	g.h.mu.Lock()
	g.h.granted[at], g.h.offered[at] = g.page, g.bell
	g.h.mu.Unlock()
	// In one piece, so that nobody sees half of it.
	g.h.must(g.h.toolstack.Transaction(func(tx *xenstore.Tx) error {
		return errors.Join(tx.Write(g.front("ring-ref"), fmt.Sprint(g.ref)), tx.Write(g.front("event-channel"), fmt.Sprint(g.ref)),
			tx.Write(g.front("feature-protocol-v2"), "1"))
	}))
}

func (g *guest) write(key, value string) {
	g.h.t.Helper()
	g.h.must(g.h.toolstack.Write(g.front(key), value))
}

// settled waits until nobody has anything to do but wait, for whatever time has to pass until then.
func (g *guest) settled() { settle() }

func settle() {
	time.Sleep(100 * time.Millisecond) // of the bubble's time
	synctest.Wait()
}

// run connects as Linux's frontend does.
func (g *guest) run() {
	g.h.t.Helper()
	g.share()
	g.write("state", "3")
	settle()
	g.state("4")
	g.write("state", "4")
	settle()
}

// state checks the backend's state; "" where it should have none.
func (g *guest) state(want string) {
	g.h.t.Helper()
	if got, err := g.h.toolstack.Read(g.back("state")); got != want {
		g.h.t.Errorf("the backend of domain %d is in state %q (%v); want %q", g.domain, got, err, want)
	}
}

// put writes a request into the page.
func (g *guest) put(length uint32, state, locality, extra byte, packet []byte) {
	for i := 0; i < len(packet); i += 4 {
		var w [4]byte
		copy(w[:], packet[i:])
		atomic.StoreUint32(&g.page[2+i/4], binary.LittleEndian.Uint32(w[:]))
	}
	atomic.StoreUint32(&g.page[0], length)
	atomic.StoreUint32(&g.page[1], uint32(state)|uint32(locality)<<8|uint32(extra)<<24)
}

func (g *guest) submit(command []byte) {
	g.put(uint32(len(command)), 1, 0, 0, command)
	g.bell.ring()
	settle()
}

// got is the page's state and packet.
func (g *guest) got() (state byte, packet []byte) {
	state = byte(atomic.LoadUint32(&g.page[1]))
	n := min(atomic.LoadUint32(&g.page[0]), 4088)
	for i := range int(n+3) / 4 {
		packet = binary.LittleEndian.AppendUint32(packet, atomic.LoadUint32(&g.page[2+i]))
	}
	return state, packet[:n]
}

// answered checks that the command was answered with the keeper's echo.
func (g *guest) answered(command []byte) {
	g.h.t.Helper()
	if state, packet := g.got(); state != 2 || !bytes.Equal(packet, echo(command)) {
		g.h.t.Errorf("domain %d: state %d, response %x; want %x", g.domain, state, packet, echo(command))
	}
}

func echo(command []byte) []byte { return append([]byte("response to "), command...) }

func command(text string) []byte { return []byte("command: " + text) }

// keeper keeps vTPMs that repeat what they are told.
type keeper struct {
	mu       sync.Mutex
	asked    []vtpm.Guest
	sessions map[string]*session // by domain
	refuse   map[string]error    // by domain
	givenUp  int
	hang     chan struct{} // Attach waits for it, where it is not nil
}

func (k *keeper) Attach(ctx context.Context, g vtpm.Guest) (vtpm.Session, error) {
	k.mu.Lock()
	k.asked = append(k.asked, g)
	err, hang := k.refuse[g.Domain], k.hang
	k.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			k.mu.Lock()
			defer k.mu.Unlock()
			k.givenUp++
			return nil, ctx.Err()
		}
	}
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	s := &session{}
	k.sessions[g.Domain] = s
	return s, nil
}

func (k *keeper) of(g *guest) *session {
	k.mu.Lock()
	defer k.mu.Unlock()
	if s := k.sessions[fmt.Sprintf("xen:%d", g.domain)]; s != nil {
		return s
	}
	return &session{}
}

func (k *keeper) attaches() []vtpm.Guest {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]vtpm.Guest(nil), k.asked...)
}

type session struct {
	mu                         sync.Mutex
	executed                   [][]byte
	localities                 []tpm.Locality
	cancelled, closed, isEnded int
	execute                    func(ctx context.Context, command []byte) ([]byte, error)
	cancel                     func()
}

func (s *session) Version() tpm.Version { return tpm.V20 }

// startLog is the log of every guest's start here.
var startLog = bytes.Repeat([]byte("what the guest was started with "), 100)

func (s *session) Log() ([]byte, error) { return startLog, nil }

func (s *session) Execute(ctx context.Context, at tpm.Locality, command []byte) ([]byte, error) {
	s.mu.Lock()
	s.executed, s.localities = append(s.executed, bytes.Clone(command)), append(s.localities, at)
	execute := s.execute
	s.mu.Unlock()
	if execute != nil {
		return execute(ctx, command)
	}
	return echo(command), nil
}

func (s *session) Cancel() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancelled++
	if s.cancel != nil {
		s.cancel()
	}
	return nil
}

func (s *session) Reset(context.Context) error { return errors.New("no frontend of Xen's resets") }

func (s *session) Close() error { s.mu.Lock(); defer s.mu.Unlock(); s.closed++; return nil }
func (s *session) End() error   { s.mu.Lock(); defer s.mu.Unlock(); s.isEnded++; return nil }

// history checks how often a session was closed and ended.
func (g *guest) history(closed, ended int) {
	g.h.t.Helper()
	s := g.h.keeper.of(g)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed != closed || s.isEnded != ended {
		g.h.t.Errorf("domain %d's session was closed %d times and ended %d times; want %d and %d", g.domain, s.closed, s.isEnded, closed, ended)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var _ io.Writer = (*lockedBuffer)(nil)

// slow is a vTPM that takes its time.
func slow(d time.Duration) func(context.Context, []byte) ([]byte, error) {
	return func(ctx context.Context, command []byte) ([]byte, error) {
		select {
		case <-time.After(d):
			return echo(command), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// follow notes the values of a node from now on.
func (h *host) follow(path string) func() []string {
	h.t.Helper()
	c := h.store.Connect()
	changed := make(chan struct{}, 1000)
	_, err := c.Watch(path, func(string) { changed <- struct{}{} })
	h.must(err)
	var values []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range changed {
			v, _ := h.toolstack.Read(path)
			values = append(values, v)
		}
	}()
	return func() []string {
		c.Close()
		close(changed)
		<-done
		return values
	}
}
