package xen

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/antievilmaid/aem/internal/xenstore"
	"github.com/antievilmaid/aem/vtpm"
)

// The states of either end (enum xenbus_state of io/xenbus.h), as xenstore has them.
const (
	initialising = "1"
	initWait     = "2" // the backend is there
	initialised  = "3" // the frontend has written where its page and its bell are
	connected    = "4"
	closing      = "5"
	closed       = "6"
)

// What the backend writes into its own directory besides its state.
const (
	protocolNode = "feature-protocol-v2"
)

// Pauses bound what a guest can make us do by writing and ringing all the time. They are short
// beside what a guest waits for anyway.
const (
	betweenLooks = 5 * time.Millisecond // at what xenstore says
	betweenRings = 2 * time.Millisecond // that brought no command
)

// cancelPatience bounds the answer to a guest that cancels its command.
const cancelPatience = 2 * time.Second

// attachPatience is how long the keeper's answer is waited for before the toolstack is told that we are
// there. It gives up after ten seconds, and a slow vTPM is not a refused one: its guest's
// driver waits.
const attachPatience = 5 * time.Second

// lastPatience bounds how long a command that is under way is waited for when the manager ends.
const lastPatience = 20 * time.Second

// device is one vTPM of one guest. All but poke belongs to its own goroutine.
type device struct {
	b     *Backend
	at    place
	poked chan struct{}

	watch *xenstore.Watch
	lived bool // xenstored has known the domain

	attached chan attachment // where an Attach is under way
	giveUp   context.CancelFunc
	slow     <-chan time.Time
	session  vtpm.Session
	refused  bool // there is no vTPM for this device, until it goes

	link *link // while page and bell are there
	work *work // while a command is under way

	journal journal
}

type attachment struct {
	guest   vtpm.Guest
	session vtpm.Session
	err     error
}

func newDevice(b *Backend, at place) *device {
	d := &device{b: b, at: at, poked: make(chan struct{}, 1), journal: journal{log: b.Log.With("domain", at.domain, "device", at.device)}}
	d.poke()
	return d
}

// poke has the device look at xenstore. However often it is called, it looks once.
func (d *device) poke() {
	select {
	case d.poked <- struct{}{}:
	default:
	}
}

// run serves the device until it is gone or the context ends.
func (d *device) run(ctx context.Context) {
	var rest <-chan time.Time // while there is one, xenstore is not looked at
	for gone := false; !gone; {
		poked := d.poked
		if rest != nil {
			poked = nil
		}
		var l link // all its channels are nil where there is none
		if d.link != nil {
			l = *d.link
		}
		var w work
		if d.work != nil {
			w = *d.work
		}
		select {
		case <-ctx.Done():
			d.leave()
			return
		case <-poked:
			gone = d.step(ctx)
			rest = time.After(betweenLooks)
		case <-rest:
			rest = nil
		case a := <-d.attached:
			d.take(a)
			d.poke()
		case <-d.slow:
			d.slow = nil
			d.journal.info("the guest's vTPM takes its time")
			if err := d.appear(func(*xenstore.Tx) error { return nil }); err != nil && !errors.Is(err, os.ErrNotExist) {
				d.complain("xenstore does not take the vTPM's state", err)
			}
		case err := <-l.rang:
			d.ring(ctx, err)
		case <-l.quiet:
			d.unmask()
		case r := <-w.done:
			d.finish(ctx, r)
		case <-w.patience:
			d.abandon()
		}
	}
	d.end()
}

// step looks at what xenstore says and does what follows from it. It says when the device is gone.
func (d *device) step(ctx context.Context) (gone bool) {
	dir := d.at.backend()
	state, err := d.b.Store.Read(dir + "/state")
	if errors.Is(err, os.ErrNotExist) {
		// A refused device has no state, so that the toolstack gives up at once.
		_, err = d.b.Store.Read(dir + "/frontend-id")
		return !d.refused || errors.Is(err, os.ErrNotExist)
	}
	if err == nil && d.watch == nil {
		d.watch, err = d.b.Store.Watch(d.at.frontend()+"/state", func(string) { d.poke() })
	}
	lives, err2 := d.b.Store.Introduced(d.at.domain)
	if err := errors.Join(err, err2); err != nil {
		d.complain("xenstore does not say how the vTPM stands", err)
		return false
	}
	if d.lived && !lives {
		d.release()
		return false
	}
	d.lived = d.lived || lives

	switch {
	case state == initialising && (d.session != nil || d.refused):
		// The toolstack removed the device and made it anew between two looks.
		return true
	case state == closing:
		d.disconnect()
		d.setState(closed)
		d.dismiss()
	case d.refused || state == closed && d.session == nil:
	case d.session == nil && d.attached == nil:
		d.attach(ctx)
	case d.session == nil:
	case state == initialising:
	default:
		d.follow(ctx, state)
	}
	return false
}

// attach asks the keeper for the vTPM, without waiting for it.
func (d *device) attach(ctx context.Context) {
	ctx, d.giveUp = context.WithCancel(ctx)
	answer := make(chan attachment, 1)
	d.attached, d.slow = answer, time.After(attachPatience)
	go func() {
		g, err := d.b.guest(d.at)
		if err != nil {
			answer <- attachment{g, nil, err}
			return
		}
		s, err := d.b.Keeper.Attach(ctx, g)
		answer <- attachment{g, s, err}
	}()
}

// errOther says that the device is not the one any more that its vTPM was asked for.
var errOther = errors.New("the toolstack has put another device in its place")

// take takes the keeper's answer.
func (d *device) take(a attachment) {
	d.attached, d.slow = nil, nil
	d.giveUp()
	if a.err != nil {
		if !d.refused { // otherwise nobody waits for it any more
			d.refuse("the guest gets no vTPM", a.err)
		}
		return
	}
	d.session = a.session
	if d.refused {
		d.endSession()
		return
	}
	d.show(a)
	err := d.appear(func(tx *xenstore.Tx) error {
		if u, _ := tx.Read(d.at.backend() + "/uuid"); !strings.EqualFold(u, a.guest.UUID.String()) {
			return errOther
		}
		return nil
	})
	switch {
	case errors.Is(err, errOther):
		d.endSession() // and the next look asks for the other one
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		d.complain("the vTPM is there and xenstore can't be told", err)
	default:
		d.journal.info("the guest's vTPM is there", "uuid", a.guest.UUID, "family", a.session.Version(), "late", a.guest.Late)
	}
}

// appear tells the toolstack and the frontend that we are there, if they don't know it and
// still want to; and does something else with it.
func (d *device) appear(also func(*xenstore.Tx) error) error {
	dir := d.at.backend()
	return d.b.Store.Transaction(func(tx *xenstore.Tx) error {
		state, err := tx.Read(dir + "/state")
		if err != nil || state == closing || d.refused {
			return err // the next look finds out
		}
		if err := errors.Join(also(tx), tx.Write(dir+"/"+protocolNode, "1")); err != nil || state != initialising {
			return err
		}
		return tx.Write(dir+"/state", initWait)
	})
}

// follow does what the frontend's state asks for.
func (d *device) follow(ctx context.Context, state string) {
	front, err := d.b.Store.Read(d.at.frontend() + "/state")
	if errors.Is(err, xenstore.ErrClosed) {
		return // that is not the guest's doing; where it has no state, it is as good as closed
	}
	if front == initialised || front == connected {
		if state != closed { // a frontend that was refused comes back through closed
			d.meet(ctx, state)
		}
		return
	}
	d.letGo()
	want := closed
	if online, _ := d.b.Store.Read(d.at.backend() + "/online"); online == "1" {
		want = initWait
	}
	if state != want {
		d.setState(want)
	}
}

// letGo is what follows when the guest has closed its end: it may come back.
func (d *device) letGo() {
	if d.link == nil {
		return
	}
	d.disconnect()
	if err := d.session.Close(); err != nil {
		d.complain("the vTPM was not put aside in order", err)
	}
	d.journal.info("the guest has closed its vTPM")
}

// dismiss is what follows when the toolstack removes the device.
func (d *device) dismiss() {
	if d.attached != nil {
		d.giveUp()
	}
	d.slow = nil
	d.refused = true // for whoever asks before it is gone
}

// release is what follows when the domain is gone and its nodes are not.
func (d *device) release() {
	if !d.refused {
		d.dismiss()
		d.disconnect()
		d.setState(closed)
		d.endSession()
	}
}

// setState sets our end's state, unless the toolstack has removed the device: to write then
// would make it anew; or unless it wants it closed, and that is not what we say.
func (d *device) setState(want string) {
	path := d.at.backend() + "/state"
	err := d.b.Store.Transaction(func(tx *xenstore.Tx) error {
		state, err := tx.Read(path)
		if err != nil || state == want || state == closing && want != closed {
			return err
		}
		return tx.Write(path, want)
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		d.complain("xenstore does not take the vTPM's state", err)
	}
}

// refuse tells everybody that there is no vTPM, and why. The toolstack waits ten seconds for
// a backend's state, but gives up at once where there is none any more.
func (d *device) refuse(what string, cause error) {
	d.refused = true
	d.report(what, cause)
	dir := d.at.backend()
	err := d.b.Store.Transaction(func(tx *xenstore.Tx) error {
		state, err := tx.Read(dir + "/state")
		switch {
		case err != nil:
			return err
		case state == initialising:
			return tx.Remove(dir + "/state")
		}
		return tx.Write(dir+"/state", closed)
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		d.complain("xenstore does not take the vTPM's state", err)
	}
}

// report writes a cause into the log and where the toolstack's owner finds it.
func (d *device) report(what string, cause error) {
	d.complain(what, cause)
	if err := d.b.refusals.write(d.b.Store, d.at.backend(), what+": "+cause.Error()); err != nil {
		d.complain("xenstore does not take the cause", err)
	}
}

func (d *device) complain(what string, cause error) { d.journal.error(what, cause) }

// leave ends this manager's work for a device that stays.
func (d *device) leave() {
	for patience := time.After(lastPatience); d.work != nil; {
		select {
		case r := <-d.work.done:
			d.finish(context.Background(), r)
		case <-patience:
			d.work.stop()
			d.finish(context.Background(), <-d.work.done)
		}
	}
	d.stop()
}

// end ends the device for good.
func (d *device) end() {
	d.stop()
	d.endSession()
	d.journal.info("the guest's vTPM is gone")
}

// stop lets go of all that is the device's, but for the session.
func (d *device) stop() {
	d.disconnect()
	if d.watch != nil {
		d.watch.Close()
	}
	if d.attached != nil {
		d.giveUp()
		if a := <-d.attached; a.err == nil {
			d.session = a.session
		}
		d.attached = nil
	}
}

func (d *device) endSession() {
	if d.session == nil {
		return
	}
	if d.work != nil {
		d.work.stop()
	}
	if err := d.session.End(); err != nil {
		d.complain("the vTPM was not ended in order", err)
	}
	d.session = nil
}
