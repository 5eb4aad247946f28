package xen

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/antievilmaid/aem/internal/xenstore"
	"github.com/antievilmaid/aem/vtpm"
)

// link is the page and the bell that a guest shares with us.
type link struct {
	page            Page
	shared          shared
	channel         Channel
	reference, port uint32
	rang            chan error       // nil: the guest rang; otherwise the bell is broken
	quiet           <-chan time.Time // while there is one, the guest is not heard
	stop            chan struct{}
}

// work is a command that is under way.
type work struct {
	link      *link
	done      chan result
	stop      context.CancelFunc
	cancelled bool
	abandoned bool // the guest was told that it gets no response
	patience  <-chan time.Time
}

type result struct {
	response []byte
	err      error
}

// meet connects to a frontend that says that it is ready, unless we are connected to what it offers.
func (d *device) meet(ctx context.Context, state string) {
	reference, err := d.offered("ring-ref")
	port, err2 := d.offered("event-channel")
	err = errors.Join(err, err2)
	if errors.Is(err, xenstore.ErrClosed) {
		return
	}
	if v, _ := d.b.Store.Read(d.at.frontend() + "/" + protocolNode); err == nil && v != "1" {
		err = fmt.Errorf("it does not say %s=1, and there is no other version any more", protocolNode)
	}
	if err == nil && d.link != nil {
		if d.link.reference == reference && d.link.port == port {
			return
		}
		d.letGo() // it closed and came back between two looks
	}
	if err == nil {
		err = d.connect(reference, port)
	}
	if err != nil {
		d.letGo()
		d.report("the guest's frontend can't be connected to", err)
		d.setState(closed)
		return
	}
	if state != connected {
		d.setState(connected)
	}
	d.journal.info("the guest is connected to its vTPM")
	d.look(ctx) // the first command is there before the frontend is answered
}

// offered reads a number that the frontend wrote.
func (d *device) offered(key string) (uint32, error) {
	v, err := d.b.Store.Read(d.at.frontend() + "/" + key)
	if err != nil {
		return 0, err
	}
	n, err := number(v)
	if err != nil {
		err = fmt.Errorf("its %s: %w", key, err)
	}
	return n, err
}

func (d *device) connect(reference, port uint32) error {
	page, err := d.b.Map(d.at.domain, reference)
	if err != nil {
		return err
	}
	channel, err := d.b.Bind(d.at.domain, port)
	if err != nil {
		return errors.Join(err, page.Close())
	}
	l := &link{
		page: page, shared: shared{page.Words()}, channel: channel, reference: reference, port: port,
		rang: make(chan error), stop: make(chan struct{}),
	}
	d.link = l
	go l.listen()
	return nil
}

// listen hears the bell. It never touches the page.
func (l *link) listen() {
	for {
		err := l.channel.Wait()
		select {
		case l.rang <- err:
		case <-l.stop:
			return
		}
		if err != nil {
			return
		}
	}
}

// disconnect lets go of page and bell, if we hold any.
func (d *device) disconnect() {
	l := d.link
	if l == nil {
		return
	}
	d.link = nil
	close(l.stop)
	if err := errors.Join(l.channel.Close(), l.page.Close()); err != nil {
		d.complain("the guest's page was not let go of in order", err)
	}
	if d.work != nil {
		d.session.Cancel() // nobody waits for it any more
	}
}

// ring is what follows when the guest rang.
func (d *device) ring(ctx context.Context, err error) {
	if err != nil {
		d.letGo()
		d.report("the guest can't be heard any more", err)
		d.setState(closed)
		return
	}
	if d.look(ctx) {
		d.unmask()
		return
	}
	// It rang for nothing: it is heard again a little later.
	d.link.quiet = time.After(betweenRings)
}

// unmask lets the guest ring again.
func (d *device) unmask() {
	d.link.quiet = nil
	if err := d.link.channel.Unmask(); err != nil {
		d.complain("the guest's bell can't be heard", err)
	}
}

// look looks at the page. It says whether there was a reason to.
func (d *device) look(ctx context.Context) bool {
	page := d.link.shared
	if d.work != nil {
		if page.state() != cancel || d.work.cancelled {
			return false
		}
		d.work.cancelled, d.work.patience = true, time.After(cancelPatience)
		if err := d.session.Cancel(); err != nil {
			d.complain("the guest's command can't be cancelled", err)
		}
		return true
	}
	if page.state() == cancel { // and nothing is under way
		d.tell(idle)
		return false
	}
	at, command, submitted, err := page.command()
	if err != nil {
		d.complain("a command was refused", err)
		d.tell(idle)
		return false
	}
	if !submitted {
		return false
	}
	// A command is not given up because the manager ends: the guest would send it again.
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	w := &work{link: d.link, done: make(chan result, 1), stop: stop}
	d.work = w
	session := d.session
	go func() {
		response, err := session.Execute(ctx, at, command)
		w.done <- result{response, err}
	}()
	return true
}

// finish gives the guest its response.
func (d *device) finish(ctx context.Context, r result) {
	w := d.work
	w.stop()
	d.work = nil
	switch waits := d.link != nil && w.link == d.link && !w.abandoned; {
	case r.err != nil:
		if waits {
			d.tell(idle)
		}
		if !d.refused {
			d.disconnect()
			d.refuse("the guest's vTPM has failed", r.err)
		}
		return
	case waits && (len(r.response) < minCommand || len(r.response) > vtpm.BufferSize):
		d.complain("a response was dropped", fmt.Errorf("it has %d bytes; between %d and %d are possible", len(r.response), minCommand, vtpm.BufferSize))
		d.tell(idle)
	case waits:
		d.link.shared.answer(r.response)
		d.notify()
	case d.link != nil:
		d.look(ctx) // what was submitted meanwhile
	}
}

// abandon tells a guest that cancelled that it gets no response, where that takes too long.
func (d *device) abandon() {
	d.work.patience = nil
	if d.link == d.work.link {
		d.work.abandoned = true
		d.tell(idle)
	}
}

// tell sets the page's state, and rings.
func (d *device) tell(state byte) {
	d.link.shared.set(state)
	d.notify()
}

func (d *device) notify() {
	if err := d.link.channel.Notify(); err != nil {
		d.complain("the guest can't be rung at", err)
	}
}
