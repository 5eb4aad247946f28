package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/internal/vtpmbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/manager"
	"github.com/antievilmaid/aem/vtpm/store"
)

// The disk was made read-only before vtpmd starts, as a kernel does with one that fails: a sentence says so, nothing is
// changed, the TPM's counter neither, and mounted for writing it is what it was.
func TestAReadOnlyDisk(t *testing.T) {
	testbed.Need(t, "unshare", "mount")
	readOnly := false
	var s *vtpmbed.Server
	s = vtpmbed.New(t, tpm.V20, func(args ...string) *exec.Cmd {
		c := vtpmd(args...)
		if readOnly {
			// In a view of its own, which nobody else has.
			how := "-m"
			if os.Geteuid() != 0 {
				how = "-rm"
			}
			c.Args = append([]string{"unshare", how, "sh", "-ec", `mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"; exec "$@"`, s.State()}, c.Args...)
			path, err := exec.LookPath("unshare")
			must(t, err)
			c.Path = path
		}
		return c
	})
	s.Do(aem.ExitOK, "The store", "init")
	d := s.Start()
	v := s.New("a guest", "2.0")
	who, epoch := s.Identity(v), uint64(0)
	d.Stop()
	d = s.Start()
	status, err := s.Status(t.Context())
	must(t, err)
	epoch = status.Epoch
	d.Stop()
	file, err := os.ReadFile(filepath.Join(s.State(), "vtpms"))
	must(t, err)

	readOnly = true
	for range 2 {
		s.Do(aem.ExitError, "with the store of guests' TPMs is read-only", "--run", filepath.Join(s.Dir, "run"))
	}
	readOnly = false
	if again, err := os.ReadFile(filepath.Join(s.State(), "vtpms")); err != nil || !bytes.Equal(file, again) {
		t.Errorf("the store was changed, %v", err)
	}
	d = s.Start()
	if status, err := s.Status(t.Context()); err != nil || status.Epoch != epoch+2 { // at the last end, and at this start
		t.Errorf("epoch %d, and before it was %d, %v", status.Epoch, epoch, err)
	}
	if s.Identity(v) != who {
		t.Error("the vTPM is another one")
	}
	d.Stop()
}

// said is a log that can be waited for.
type said struct {
	lines chan string
}

func (s said) Write(b []byte) (int, error) {
	s.lines <- string(b)
	return len(b), nil
}

// until waits for a line, and returns those that came before it, too.
func (s said) until(t *testing.T, words string) (all string) {
	t.Helper()
	for limit := time.After(time.Minute); ; {
		select {
		case line := <-s.lines:
			if all += line; strings.Contains(line, words) {
				return all
			}
		case <-limit:
			t.Fatalf("it did not say %q, but:\n%s", words, all)
		}
	}
}

// counter is a store's root in memory.
type counter struct{ value uint64 }

func (c *counter) Key() ([]byte, error)   { return bytes.Repeat([]byte{7}, store.KeySize), nil }
func (c *counter) Epoch() (uint64, error) { return c.value, nil }
func (c *counter) Advance(uint64) error   { c.value++; return nil }

// A commit that the disk did not confirm stops the store. vtpmd hears of it from the guest that is paused, says what is
// wrong, tries again by itself, and goes on when the disk works; no epoch is begun because of it.
func TestADiskThatDoesNotConfirm(t *testing.T) {
	dir := t.TempDir()
	var root counter
	path := filepath.Join(dir, "vtpms")
	must(t, store.Create(path, &root))
	st, err := store.Open(path, &root)
	must(t, err)
	defer st.Close()
	r := &store.Record{UUID: vtpm.NewUUID(), Family: tpm.V20, Key: make([]byte, store.KeySize), State: []byte("1"), Created: time.Unix(1, 0), Changed: time.Unix(1, 0)}
	must(t, st.Add(r))
	log := said{make(chan string, 1000)}
	d := &daemon{options: &options{}, store: st, epoch: time.Hour, log: slog.New(slog.NewTextHandler(log, nil)), keeper: newKeeper(), manager: manager.New(manager.Config{Store: st})}
	d.audit, err = openAudit(dir, d.log)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		d.epochs(ctx)
		close(ended)
	}()
	defer func() { cancel(); <-ended }()

	before := root.value
	runtime.LockOSThread() // system calls are counted by thread
	defer runtime.UnlockOSThread()
	heal := testbed.DoubtfulDisk(t, path)
	if err := st.PutState(r.UUID, 2, []byte("2")); !errors.Is(err, store.ErrUnsure) {
		t.Fatalf("the commit gave %v", err)
	}
	d.keeper.hear(manager.Happening{Kind: "paused"})
	log.until(t, "does not confirm")
	if err := st.Fault(); !errors.Is(err, store.ErrUnsure) {
		t.Errorf("the store says %v", err)
	}
	heal()
	log.until(t, "the disk confirmed")
	if got, err := st.Get(r.UUID); err != nil || got.Generation > 2 {
		t.Errorf("%+v, %v", got, err)
	}
	if root.value > before+1 {
		t.Errorf("the counter moved from %d to %d", before, root.value)
	}
}
