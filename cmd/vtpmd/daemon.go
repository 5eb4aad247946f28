package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/internal/fdstore"
	"github.com/antievilmaid/aem/internal/journal"
	"github.com/antievilmaid/aem/internal/vtpmhost"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/admin"
	"github.com/antievilmaid/aem/vtpm/emulator"
	"github.com/antievilmaid/aem/vtpm/manager"
	"github.com/antievilmaid/aem/vtpm/measure"
	"github.com/antievilmaid/aem/vtpm/root"
	"github.com/antievilmaid/aem/vtpm/store"
	"github.com/antievilmaid/aem/vtpm/xl"
)

// daemon is what serves guests.
type daemon struct {
	*options
	runDir   string
	group    string
	epoch    time.Duration
	level    slog.Level
	users    int
	first    uint32
	xl       string
	hostVTPM string

	log       *slog.Logger
	machine   *vtpmhost.Machine
	held      map[string][]*os.File
	root      *root.Root
	store     *store.Store
	emulators *emulator.Host
	manager   *manager.Manager
	audit     *audit
	keeper    *keeper
	sockets   *sockets
	host      measure.Host
	launch    string // in words
	frontends []string
	escrow    atomic.Pointer[admin.Escrow] // the last one
}

func (d *daemon) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&d.runDir, "run", "/run/vtpmd", "folder for sockets")
	f.StringVar(&d.group, "group", "", "a group whose members may look at list, vTPMs and metrics (default: root alone)")
	f.DurationVar(&d.epoch, "epoch", 15*time.Minute, "how often the hardware TPM's counter is moved while something changes: what is older than that is refused after a crash")
	f.TextVar(&d.level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	f.IntVar(&d.users, "users", 4096, "how many guests can run at once: each emulator has a user of its own")
	f.Uint32Var(&d.first, "first-user", 2000000000, "the number of the first of these users, whom nobody else may be")
	f.StringVar(&d.xl, "xl", "xl", "Xen's toolstack")
	f.StringVar(&d.hostVTPM, "host-vtpm", "", "the UUID of a vTPM that this system itself uses, as one more /dev/tpm (needs the module tpm_vtpm_proxy)")
}

// claimPatience is how long the guests of a vtpmd that died have to be found again by their frontends.
const claimPatience = 30 * time.Second

// run serves until the context or a signal ends it.
func (d *daemon) run(ctx context.Context) (err error) {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	d.log = slog.New(slog.NewTextHandler(d.errs, &slog.HandlerOptions{Level: d.level}))
	if err := vtpmhost.KeepSecrets(); err != nil {
		d.log.Warn("secrets are not kept in memory as well as they could be", "because", err)
	}
	d.held = fdstore.Taken() // before any child is there
	if d.epoch <= 0 {
		return errors.New("the time between two epochs is not positive")
	}
	// What was opened last is closed first, whatever happened in between.
	var closers []func() error
	defer func() {
		for i := len(closers) - 1; i >= 0; i-- {
			err = errors.Join(err, closers[i]())
		}
	}()
	later := func(f func() error) { closers = append(closers, f) }
	if err := d.openTrust(later); err != nil {
		return err
	}
	if err := d.openManager(later); err != nil {
		return err
	}
	return d.serve(ctx)
}

// openTrust opens what guests' secrets rest on. Without it nothing starts.
func (d *daemon) openTrust(later func(func() error)) (err error) {
	lock, err := d.where.Lock()
	if err != nil {
		return err
	}
	later(lock.Close)
	if d.machine, err = vtpmhost.Open(d.where); err != nil {
		return err
	}
	later(d.machine.Close)
	if d.root, d.store, err = d.machine.OpenStore(); err != nil {
		return err
	}
	later(func() error { d.root.Close(); return nil })
	later(d.store.Close)
	if d.host, err = d.machine.Host(d.root); err != nil {
		return err
	}
	verified, launch, err := d.machine.Launched()
	if err != nil {
		return err
	}
	d.launch = launch
	switch {
	case d.host.Grade == measure.StaticRoot:
		d.log.Warn("the store rests on the static root, not on a dynamic launch, as its owner chose")
		d.launch = "no dynamic launch: firmware and boot loader measured themselves"
	case !verified:
		d.log.Warn("the TPM opened the store, and the launch's log does not prove what was launched", "because", launch)
	}
	return nil
}

// folder makes a folder that users of ours must be able to pass, whatever the umask.
func folder(path string, mode os.FileMode) error {
	if err := errors.Join(os.MkdirAll(path, mode), os.Chmod(path, mode)); err != nil {
		return fmt.Errorf("make the folder %s: %w", path, err)
	}
	return nil
}

func (d *daemon) openManager(later func(func() error)) (err error) {
	if err := folder(d.runDir, 0o755); err != nil {
		return err
	}
	emulators := filepath.Join(d.runDir, "emulators")
	if err := folder(emulators, 0o711); err != nil {
		return err
	}
	if d.emulators, err = emulator.NewHost(emulators); err != nil {
		return err
	}
	later(d.emulators.Close)
	for _, missing := range d.emulators.Missing() {
		d.log.Warn("emulators are not as well confined as they could be", "because", missing)
	}
	if d.audit, err = openAudit(d.where.State, d.log); err != nil {
		return err
	}
	d.keeper = newKeeper()
	tell := func(h manager.Happening) {
		d.audit.tell(h)
		d.keeper.hear(h)
	}
	d.manager = manager.New(manager.Config{Store: d.store, Emulators: d.emulators, Host: d.host, Tell: tell, Held: fdstore.Open(), Random: d.machine.Chip.Random, FirstUser: d.first, Users: d.users})
	later(func() error {
		err := d.manager.Close()
		d.audit.note("ended", "vtpmd ends", nil)
		return errors.Join(err, d.audit.keep(d.manager))
	})
	d.manager.Adopt(context.Background(), d.held)
	d.audit.check(d.manager) // and says what is wrong
	// Where the journal is broken, that was said; what it has of an escrow is worth knowing still.
	if last, _ := vtpmhost.LastEscrow(d.audit.journal); last != nil {
		d.escrow.Store(admin.EscrowOf(last))
	}
	id, err := d.root.ID()
	if err != nil {
		return err
	}
	d.audit.note(journal.Opened, "vtpmd begins", map[string]string{"store": id.String(), "grade": d.host.Grade.String(), "launch": d.launch})
	return d.audit.keep(d.manager)
}

// serve opens the ways on which guests and the administrator come, says that it is ready, and
// ends when it is told to, or one of the ways does.
func (d *daemon) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	failed := make(chan error, 1) // the first way that did
	fail := func(err error) {
		select {
		case failed <- err:
		default:
		}
		cancel()
	}
	var running sync.WaitGroup
	defer func() {
		cancel()
		running.Wait()
		d.sockets.serving.Wait()
	}()
	way := func(name string, serve func(context.Context) error) {
		d.frontends = append(d.frontends, name)
		running.Go(func() {
			if err := serve(ctx); err != nil {
				fail(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	var err error
	if d.sockets, err = newSockets(ctx, filepath.Join(d.runDir, "qemu"), d.manager, d.log); err != nil {
		d.sockets = &sockets{}
		return err
	}
	if err := d.openWays(ctx, way); err != nil {
		return err
	}
	group, err := groupID(d.group)
	if err != nil {
		return err
	}
	l, err := admin.Listen(filepath.Join(d.runDir, "admin.sock"), group)
	if err != nil {
		return err
	}
	server := &admin.Server{Manager: d.manager, Host: d, Group: group, Log: d.log, Starter: &xl.Starter{Manager: d.manager, Program: d.xl, Log: d.log}}
	running.Go(func() {
		if err := server.Serve(ctx, l); err != nil {
			fail(err)
		}
	})
	count, err := d.manager.Count()
	if err != nil {
		return err
	}
	d.log.Info("ready", "vtpms", count, "grade", d.host.Grade.String(), "ways", d.frontends, "launch", d.launch)
	if err := notify(fmt.Sprintf("READY=1\nSTATUS=%d vTPMs; %s", count, d.host.Grade)); err != nil {
		d.log.Warn("nobody hears that vtpmd is ready", "because", err)
	}
	running.Go(func() {
		select {
		case <-ctx.Done():
		case <-time.After(claimPatience):
			if err := d.manager.EndUnclaimed(); err != nil {
				d.log.Error("a vTPM whose guest is gone was not ended in order", "because", err)
			}
		}
	})
	d.epochs(ctx)
	if err := notify("STOPPING=1"); err != nil {
		d.log.Warn("nobody hears that vtpmd ends", "because", err)
	}
	d.log.Info("shutting down the guests' TPMs")
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// openSockets opens those of all vTPMs that are there.
func (d *daemon) openSockets() error {
	for after := (vtpm.UUID{}); ; {
		list, err := d.manager.List(after, 256)
		if err != nil {
			d.log.Error("a part of the store is refused", "because", err)
		}
		for _, e := range list {
			if e.Err == nil {
				d.Made(e.UUID, d.policy(e.Record))
			}
			after = e.UUID
		}
		if len(list) < 256 {
			return nil
		}
	}
}

func (d *daemon) policy(r *store.Record) manager.Policy {
	p, err := manager.ParsePolicy(r.Config)
	if err != nil {
		d.log.Error("a vTPM's policy can't be read", "vtpm", r.UUID.String(), "because", err)
	}
	return p
}
