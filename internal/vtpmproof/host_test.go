package vtpmproof

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/emulator"
	"github.com/antievilmaid/aem/vtpm/manager"
	"github.com/antievilmaid/aem/vtpm/measure"
	"github.com/antievilmaid/aem/vtpm/qemu"
	"github.com/antievilmaid/aem/vtpm/root"
	"github.com/antievilmaid/aem/vtpm/store"
)

// machine is the host's hardware and disk: what outlives its restart.
type machine struct {
	t    *testing.T
	chip *swtpm.TPM
	dir  string
}

// host is what runs on the machine from one start to the next: a vTPM manager, and a
// socket for each of its vTPMs.
type host struct {
	*machine
	*manager.Manager
	measured measure.Host
	root     *root.Root
	ctx      context.Context
	stop     context.CancelFunc
	served   []chan error
	log      *journal
}

// newMachine has an emulated TPM of its own, and a vTPM store that opens where the machine is launched
// as approved.
func newMachine(t *testing.T) *machine {
	t.Helper()
	// t.TempDir's path may be longer than a socket's path may be.
	dir, err := os.MkdirTemp("", "aem-vtpm-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	chip, _ := testbed.NewTPM(t, tpm.V20)
	m := &machine{t: t, chip: chip, dir: dir}
	m.launch("approved")
	backend, err := seal.ProvisionTPM2(tpm2.New(chip), nil)
	must(t, err)
	state := seal.State{Label: "approved", PCRs: launchPCRs, Values: m.values()}
	r, err := root.Create(m.path("root"), m, backend, nil, root.Policy{States: []seal.State{state}})
	must(t, err)
	defer r.Close()
	must(t, store.Create(m.path("vtpms"), r))
	return m
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (m *machine) path(name string) string { return filepath.Join(m.dir, name) }

// socket is where QEMU finds a vTPM.
func (m *machine) socket(u vtpm.UUID) string { return m.path(u.String() + ".sock") }

// launch restarts the machine and launches Linux with a command line.
func (m *machine) launch(line string) {
	m.t.Helper()
	must(m.t, testbed.PowerOff(m.chip, tpm.V20))
	must(m.t, testbed.PowerOn(m.chip, tpm.V20))
	l := testbed.SampleLaunch(drtm.TXT, tpm.V20)
	l.CommandLine = line
	_, err := testbed.LaunchLinux(m.chip, l)
	must(m.t, err)
}

var launchPCRs = tpm.PCRSet(tpm.PCRCode, tpm.PCRData)

// values are those of the PCRs of the launch, without the bank that proves the least.
func (m *machine) values() tpm.Banks {
	m.t.Helper()
	banks, err := m.ReadPCRs(launchPCRs)
	must(m.t, err)
	var list tpm.Banks
	for _, b := range banks {
		if b.Alg != tpm.SHA1 {
			list = append(list, b)
		}
	}
	return list
}

// ReadPCRs and Backend make the machine a root.Chip.
func (m *machine) ReadPCRs(set tpm.PCRs) (tpm.Banks, error) { return tpm2.New(m.chip).ReadPCRs(set) }

func (m *machine) Backend(anchor []byte) (seal.Backend, error) {
	return seal.OpenTPM2(tpm2.New(m.chip), anchor)
}

// start does what the vTPM manager does when the machine has started.
func (m *machine) start() (*host, error) {
	r, err := root.Open(m.path("root"), m)
	if err != nil {
		return nil, err
	}
	s, err := store.Open(m.path("vtpms"), r)
	if err != nil {
		r.Close()
		return nil, err
	}
	emulators, err := emulator.NewHost(m.dir)
	if err != nil {
		r.Close()
		return nil, errors.Join(err, s.Close())
	}
	h := &host{machine: m, root: r, log: &journal{}, measured: measure.Host{Grade: measure.Launched, PCRs: m.values()}}
	h.Manager = manager.New(manager.Config{Store: s, Emulators: emulators, Host: h.measured, FirstUser: 70000, Users: 8})
	h.ctx, h.stop = context.WithCancel(context.Background())
	m.t.Cleanup(h.shutDown)
	return h, nil
}

// started is start where it must succeed.
func (m *machine) started() *host {
	m.t.Helper()
	h, err := m.start()
	must(m.t, err)
	return h
}

// create makes a vTPM and a socket for it.
func (h *host) create(p manager.Policy) vtpm.UUID {
	h.t.Helper()
	u := vtpm.NewUUID()
	must(h.t, h.Create(h.t.Context(), u, "a guest", tpm.V20, p))
	h.serve(u)
	return u
}

// serve waits for QEMU at a vTPM's socket.
func (h *host) serve(u vtpm.UUID) {
	h.t.Helper()
	s, err := qemu.Listen(qemu.Config{Path: h.socket(u), UUID: u, Keeper: h, Log: slog.New(slog.NewTextHandler(h.log, nil))})
	must(h.t, err)
	done := make(chan error, 1)
	go func() { done <- s.Serve(h.ctx) }()
	h.served = append(h.served, done)
}

// journal keeps the lines of a log.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// shutDown ends the manager in order, as the machine's shutdown does. Twice does nothing.
func (h *host) shutDown() {
	if h.ctx.Err() != nil {
		return
	}
	h.stop()
	var err error
	for _, done := range h.served {
		err = errors.Join(err, <-done)
	}
	err = errors.Join(err, h.Manager.Close(), h.Store.Close(), h.Emulators.Close())
	h.root.Close()
	if err != nil {
		h.t.Error(err)
	}
}
