package xen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"

	"github.com/antievilmaid/aem/internal/domctl"
	"github.com/antievilmaid/aem/internal/evtchn"
	"github.com/antievilmaid/aem/internal/grant"
	"github.com/antievilmaid/aem/internal/xenstore"
	"github.com/antievilmaid/aem/vtpm"
)

// Page is a page that a guest shares with us.
type Page interface {
	// Words is the page, until Close.
	Words() *[grant.PageSize / 4]uint32
	Close() error
}

// Channel is a bell at both ends.
type Channel interface {
	// Wait waits until the guest has rung, or the channel is closed, which is an error. The guest
	// is then not heard until Unmask.
	Wait() error
	Unmask() error
	Notify() error
	Close() error
}

// Backend serves all guests whose vTPMs this domain is the backend of.
type Backend struct {
	Keeper vtpm.Keeper
	Log    *slog.Logger

	Store *xenstore.Conn
	Map   func(domain, reference uint32) (Page, error)
	Bind  func(domain, port uint32) (Channel, error)
	Ask   func(domain uint32) (domctl.Domain, error)
	// Boot names this run of the host.
	Boot string

	mu      sync.Mutex
	devices map[place]*device
	look    map[place]bool  // places where there may be a new device
	scan    map[string]bool // directories with such places: root, or root/<domain>
	changed chan struct{}

	refusals refusals
}

// Open connects to the Xen that we run on. The caller closes Store.
func Open(k vtpm.Keeper, log *slog.Logger) (*Backend, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read the name of this boot: %w", err)
	}
	store, err := xenstore.Dial()
	if err != nil {
		return nil, err
	}
	return &Backend{
		Keeper: k, Log: log, Store: store, Boot: strings.TrimSpace(string(boot)), Ask: domctl.Ask,
		Map:  func(domain, reference uint32) (Page, error) { return grant.Map(domain, reference) },
		Bind: func(domain, port uint32) (Channel, error) { return evtchn.Bind(domain, port) },
	}, nil
}

// root is the directory of all vTPMs that we are the backend of. It is relative to our own domain's.
const root = "backend/vtpm"

// Serve serves until the context ends, which is no error, or the connection to xenstore does.
//
// A command that is under way when the context ends is still answered. The sessions of guests
// that are still there are then neither closed nor ended: the guests go on waiting for the next
// Serve, which finds them connected. It is called once.
func (b *Backend) Serve(ctx context.Context) error {
	b.devices, b.look, b.scan = map[place]*device{}, map[place]bool{}, map[string]bool{}
	b.changed = make(chan struct{}, 1)
	if err := b.Store.Remove("error/" + root); err != nil {
		return err
	}
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	devices, err := b.Store.Watch(root, b.fired)
	if err != nil {
		return err
	}
	defer devices.Close()
	if w, err := b.Store.Watch("@releaseDomain", func(string) { b.poke(func(place) bool { return true }) }); err != nil {
		b.Log.Warn("the end of a domain is only noticed when the toolstack removes its vTPM", "because", err)
	} else {
		defer w.Close()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.Store.Done():
			return fmt.Errorf("serve the guests' vTPMs: %w", xenstore.ErrClosed)
		case <-b.changed:
			for _, p := range b.found() {
				b.start(ctx, &running, p)
			}
		}
	}
}

// fired notes what changed in the backend's directory. Its parts are the domain, the device and what
// belongs to the device.
func (b *Backend) fired(path string) {
	rest := strings.TrimPrefix(strings.TrimPrefix(path, root), "/")
	parts := strings.SplitN(rest, "/", 3)
	if len(parts) > 1 {
		p, err := parsePlace(parts[0], parts[1])
		if err != nil {
			return // nothing of the toolstack's
		}
		b.mu.Lock()
		d := b.devices[p]
		if d == nil {
			b.look[p] = true
		}
		b.mu.Unlock()
		if d != nil {
			d.poke()
			return
		}
	} else {
		b.poke(func(p place) bool { return rest == "" || fmt.Sprint(p.domain) == rest })
		b.mu.Lock()
		b.scan[strings.TrimSuffix(root+"/"+rest, "/")] = true
		b.mu.Unlock()
	}
	b.wake()
}

func (b *Backend) wake() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// poke has the devices at some places look after themselves.
func (b *Backend) poke(at func(place) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p, d := range b.devices {
		if at(p) {
			d.poke()
		}
	}
}

// found lists the places where there may be a new device.
func (b *Backend) found() []place {
	b.mu.Lock()
	look, scan := b.look, b.scan
	b.look, b.scan = map[place]bool{}, map[string]bool{}
	b.mu.Unlock()
	var domains []string
	for dir := range scan {
		if dir != root {
			domains = append(domains, strings.TrimPrefix(dir, root+"/"))
			continue
		}
		all, err := b.Store.Directory(root)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			b.Log.Error("the list of vTPMs can't be read", "because", err)
		}
		domains = append(domains, all...)
	}
	for _, domain := range domains {
		list, _ := b.Store.Directory(root + "/" + domain) // it may have gone again
		for _, id := range list {
			if p, err := parsePlace(domain, id); err == nil {
				look[p] = true
			}
		}
	}
	var places []place
	for p := range look {
		places = append(places, p)
	}
	return places
}

// start starts to serve a device, if there is one that nobody serves.
func (b *Backend) start(ctx context.Context, running *sync.WaitGroup, p place) {
	if _, err := b.Store.Read(p.backend() + "/state"); err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.devices[p] != nil {
		return
	}
	d := newDevice(b, p)
	b.devices[p] = d
	running.Go(func() {
		d.run(ctx)
		b.mu.Lock()
		delete(b.devices, p)
		b.look[p] = true // the next one may be there already
		b.mu.Unlock()
		b.wake()
	})
}
