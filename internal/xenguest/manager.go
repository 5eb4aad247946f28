package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/xenstore"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/xen"
)

// manage serves vTPMs to guests. With an argument, it reaches xenstore there.
func manage(args []string) error {
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	b, err := xen.Open(&keeper{log: log, open: map[vtpm.UUID]*session{}}, log)
	if err != nil {
		return err
	}
	if len(args) > 0 {
		b.Store.Close()
		if b.Store, err = xenstore.DialPath(args[0]); err != nil {
			return err
		}
	}
	fmt.Println("MANAGER serves")
	return b.Serve(context.Background())
}

// keeper runs an swtpm for each vTPM, which outlives the manager. A UUID that begins with 12 is a
// TPM 1.2's, and one that ends with ee nobody gets.
type keeper struct {
	log *slog.Logger

	mu   sync.Mutex
	open map[vtpm.UUID]*session
}

func (k *keeper) Attach(_ context.Context, g vtpm.Guest) (vtpm.Session, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	id := g.UUID.String()
	if strings.HasSuffix(id, "ee") {
		return nil, errors.New("its state was altered")
	}
	if k.open[g.UUID] != nil {
		return nil, fmt.Errorf("%s has this vTPM", k.open[g.UUID].guest.Domain)
	}
	s := &session{keeper: k, guest: g, version: tpm.V20}
	if strings.HasPrefix(id, "12") {
		s.version = tpm.V12
	}
	dir := "/run/vtpm/" + id
	born, _ := os.ReadFile(dir + "/birth")
	k.log.Info("ATTACH", "guest", g.Domain, "uuid", id, "late", g.Late, "birth", g.Birth, "again", string(born) == g.Birth)
	var err error
	if string(born) == g.Birth {
		s.tpm, err = swtpm.Dial(dir + "/ctrl")
	} else {
		s.tpm, err = fresh(dir, s.version)
	}
	if err != nil {
		return nil, err
	}
	k.open[g.UUID] = s
	return s, os.WriteFile(dir+"/birth", []byte(g.Birth), 0o600)
}

// state12 is the file in which swtpm keeps a TPM 1.2's permanent state.
const state12 = "tpm-00.permall"

// fresh starts an swtpm over the state in dir.
func fresh(dir string, v tpm.Version) (*swtpm.TPM, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	// To make a TPM 1.2's first state takes an emulated machine longer than the toolstack waits.
	if made, err := os.ReadFile("/vtpm/" + filepath.Base(dir) + "/" + state12); err == nil {
		if err := os.WriteFile(dir+"/"+state12, made, 0o600); err != nil {
			return nil, err
		}
	}
	args := []string{"socket", "--tpmstate", "dir=" + dir, "--ctrl", "type=unixio,path=" + dir + "/ctrl"}
	startup := "00c10000000c000000990001"
	if v == tpm.V20 {
		args, startup = append(args, "--tpm2"), "80010000000c000001440000"
	}
	c := exec.Command("swtpm", args...)
	c.Stdout, c.Stderr = os.Stdout, os.Stdout
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return nil, err
	}
	go c.Wait()
	var t *swtpm.TPM
	if err := wait(20*time.Second, func() (ok bool) {
		var err error
		t, err = swtpm.Dial(dir + "/ctrl")
		return err == nil
	}); err != nil {
		return nil, fmt.Errorf("swtpm: %w", err)
	}
	if err := t.Init(); err != nil {
		return nil, err
	}
	b, err := hex.DecodeString(startup)
	if err != nil {
		return nil, err
	}
	_, err = t.Send(b)
	return t, err
}

type session struct {
	keeper  *keeper
	guest   vtpm.Guest
	version tpm.Version
	tpm     *swtpm.TPM
}

func (s *session) Version() tpm.Version { return s.version }

func (s *session) Execute(_ context.Context, _ tpm.Locality, command []byte) ([]byte, error) {
	return s.tpm.Send(command)
}

func (s *session) Cancel() error               { return nil }
func (s *session) Log() ([]byte, error)        { return nil, nil }
func (s *session) Reset(context.Context) error { return errors.New("no frontend of Xen's resets") }

func (s *session) Close() error {
	s.keeper.log.Info("CLOSE", "guest", s.guest.Domain)
	return nil
}

func (s *session) End() error {
	s.keeper.mu.Lock()
	defer s.keeper.mu.Unlock()
	s.keeper.log.Info("END", "guest", s.guest.Domain)
	delete(s.keeper.open, s.guest.UUID)
	return errors.Join(os.Remove("/run/vtpm/"+s.guest.UUID.String()+"/birth"), s.tpm.Shutdown(), s.tpm.Close())
}
