package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/internal/vtpmbed"
	"github.com/antievilmaid/aem/internal/vtpmhost"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
	"github.com/antievilmaid/aem/vtpm/admin"
)

// crowded is a machine whose TPM other programs use, too, without a resource manager.
type crowded struct {
	*vtpmbed.Server
	t    *testing.T
	chip *testbed.Shared
	node string // where programs reach the TPM
	cut  func() // takes it away
}

func newCrowded(t *testing.T, v tpm.Version) *crowded {
	t.Helper()
	c := &crowded{t: t}
	c.Server = vtpmbed.New(t, v, func(args ...string) *exec.Cmd {
		list := append([]string{}, args...)
		for i := range list {
			if list[i] == c.TPM() {
				list[i] = "swtpm:" + c.node
			}
		}
		return vtpmd(list...)
	})
	conn, err := swtpm.Dial(strings.TrimPrefix(c.TPM(), "swtpm:"))
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	c.chip, c.node = testbed.NewShared(conn, v), filepath.Join(c.Dir, "tpm")
	c.cut = c.chip.Serve(t, c.node)
	return c
}

// hammered has another program use the TPM without end, always with some of its places, until the returned function
// ends it.
func (c *crowded) hammered() (end func()) {
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			back, err := c.chip.Take(1)
			for range 5 {
				_, e := c.chip.Left() // some commands
				err = errors.Join(err, e)
			}
			if err == nil {
				err = back()
			}
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(stop)
		if err := <-ended; err != nil {
			c.t.Errorf("the other program: %v", err)
		}
	})
}

// clean demands that nothing of vtpmd's is left in the TPM.
func (c *crowded) clean(when string) {
	c.t.Helper()
	left, err := c.chip.Left()
	must(c.t, err)
	if len(left) != 0 {
		c.t.Errorf("%s: %#x is left in the TPM", when, left)
	}
}

func (c *crowded) status() admin.Status {
	c.t.Helper()
	s, err := c.Status(c.t.Context())
	must(c.t, err)
	return s
}

const late, after = "epoch could not be begun", "begun after all"

// Another program uses the TPM all the time, and then takes all that there is in it. vtpmd does all it has to do beside
// the first; beside the second guests go on, what could not be done is said and made up for, and
// nothing is refused. Nothing of vtpmd's stays in the TPM.
func TestAnotherProgramUsesTheTPM(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			s := newCrowded(t, v)
			rest := s.hammered()
			s.Do(aem.ExitOK, "The store", "init")
			d := s.Start("--epoch", "100ms")
			one := s.New("a guest", "2.0")
			who := s.Identity(one)
			began := s.status().Epoch
			rest()
			s.clean("in the middle")

			empty, err := s.chip.Fill()
			must(t, err)
			two := s.New("a guest that came meanwhile", "2.0")
			also := s.Identity(two)
			d.Until(late, 2)
			if s.Identity(one) != who {
				t.Error("a guest has another TPM")
			}
			if status := s.status(); status.Late == "" || status.VTPMs != 2 {
				t.Errorf("%+v", status)
			}
			must(t, empty())
			d.Until(after, 1)
			if status := s.status(); status.Late != "" || status.Epoch <= began {
				t.Errorf("epoch %d, and before %+v", began, status)
			}
			d.Stop()
			s.clean("after the end")

			if empty, err = s.chip.Fill(); err != nil {
				t.Fatal(err)
			}
			s.Do(aem.ExitError, "Other programs keep the TPM busy", "--tpm-wait", "50ms", "--run", filepath.Join(s.Dir, "run"))
			must(t, empty())
			rest = s.hammered()
			d = s.Start()
			if s.Identity(one) != who || s.Identity(two) != also {
				t.Error("a vTPM is another one")
			}
			d.Stop()
			rest()
			s.clean("after the second end")
		})
	}
}

// The TPM's places are all taken when vtpmd starts, and become free while it waits.
func TestVtpmdWaitsForTheTPM(t *testing.T) {
	s := newCrowded(t, tpm.V20)
	s.Do(aem.ExitOK, "The store", "init")
	empty, err := s.chip.Fill()
	must(t, err)
	emptied := make(chan error, 1)
	asked := 0
	s.chip.SetBetween(func([]byte, func([]byte) ([]byte, error)) ([]byte, error) {
		if asked++; asked == 40 {
			go func() { emptied <- empty() }()
		}
		return nil, nil
	})
	d := s.Start("--tpm-wait", "1h")
	must(t, <-emptied)
	d.Stop()
	s.clean("after the end")
}

// The TPM goes away while vtpmd runs, and comes back: its driver was unbound, or its emulator died. Guests go on, each report says what is wrong,
// and the epoch is made up for.
func TestATPMThatVanishes(t *testing.T) {
	s := newCrowded(t, tpm.V20)
	s.Do(aem.ExitOK, "The store", "init")
	d := s.Start("--epoch", "100ms")
	v := s.New("a guest", "2.0")
	who := s.Identity(v)
	s.cut()
	also := s.New("another guest", "2.0")
	if s.Identity(v) != who || s.Identity(also) == who {
		t.Error("without the hardware TPM a guest's is another one")
	}
	d.Until(late, 2)
	status := s.status()
	if status.Late == "" || status.VTPMs != 2 || status.Epoch == 0 {
		t.Errorf("%+v", status)
	}
	s.cut = s.chip.Serve(t, s.node)
	d.Until(after, 1)
	if status := s.status(); status.Late != "" {
		t.Errorf("%+v", status)
	}
	d.Stop()
	s.clean("after the end")
	s.cut()
	s.Do(aem.ExitError, "", "--run", filepath.Join(s.Dir, "run"))
	s.cut = s.chip.Serve(t, s.node)
	d = s.Start()
	if s.Identity(v) != who {
		t.Error("the vTPM is another one")
	}
	d.Stop()
}

// Without a TPM there is no vTPM, nothing is made, and a sentence says why.
func TestThereIsNoTPM(t *testing.T) {
	s := newCrowded(t, tpm.V20)
	s.cut()
	none := func() {
		t.Helper()
		out, err := vtpmd("--tpm", filepath.Join(s.Dir, "none"), "--state", s.State(), "--run", filepath.Join(s.Dir, "run")).CombinedOutput()
		var e *exec.ExitError
		if !errors.As(err, &e) || e.ExitCode() != int(aem.ExitNotPossible) || !strings.Contains(string(out), "This machine shows no TPM, so nothing protects its guests' TPMs.") {
			t.Errorf("%v: %s", err, out)
		}
		if _, err := s.Status(t.Context()); err == nil {
			t.Error("there is an administrator's socket")
		}
	}
	none()
	for _, name := range []string{"root", "vtpms"} {
		if _, err := os.Lstat(filepath.Join(s.State(), name)); err == nil {
			t.Errorf("it made %s", name)
		}
	}
	s.cut = s.chip.Serve(t, s.node)
	s.Do(aem.ExitOK, "The store", "init")
	s.cut()
	none()
}

// An approval that the TPM is too busy for is refused, and is not put in force behind the owner's back.
func TestApprovingWhileTheTPMIsBusy(t *testing.T) {
	s := newCrowded(t, tpm.V20)
	home := aem.OpenHome(filepath.Join(s.Dir, "home"))
	m, closer, err := aem.Open(aem.Where{TPM: "swtpm:" + s.node, Log: filepath.Join(s.Dir, "log")}, nil)
	must(t, err)
	_, err = m.Init(home, filepath.Join(s.Dir, "medium"), nil)
	must(t, err)
	must(t, m.SetText(home, []byte("the lighthouse keeper sleeps")))
	boot, err := m.Boot()
	must(t, err)
	next, err := m.Next(boot, &drtm.Boot{Kind: drtm.Linux, Image: s.Launch.Kernel, Initrd: s.Launch.Initrd, Line: "updated"}, s.Dir, "updated")
	must(t, err)
	s.Do(aem.ExitOK, "The store", "init")
	_, err = m.Seal(home, []seal.State{*next}, nil)
	must(t, err)
	must(t, closer.Close())

	d := s.Start("--epoch", "100ms", "--tpm-wait", "50ms")
	s.chip.SetBetween(func(cmd []byte, _ func([]byte) ([]byte, error)) ([]byte, error) {
		if string(cmd[6:10]) == "\x00\x00\x01\x53" { // TPM2_Create, which seals; all before it goes well
			return s.chip.Refusal(0x902), nil // TPM_RC_OBJECT_MEMORY
		}
		return nil, nil
	})
	if _, err := s.Approve(t.Context()); err == nil || !strings.Contains(err.Error(), tpm.ErrBusy.Error()) {
		t.Errorf("approving gave %v", err)
	}
	s.New("a guest", "2.0") // so that there is an epoch to begin
	d.Until(late, 1)
	s.chip.SetBetween(nil)
	d.Until(after, 1)
	if approved := s.status().Approved; len(approved) != 1 {
		t.Errorf("approved are %q", approved)
	}
	a, err := s.Approve(t.Context())
	must(t, err)
	if len(a.Before) != 1 || len(a.After) != 2 {
		t.Errorf("%+v", a)
	}
	d.Stop()
	s.clean("after the end")
}

// At each command of vtpmd init the TPM has no room for it: it leaves neither a counter nor half a set-up, and
// may be run again.
func TestInitWhileTheTPMIsBusy(t *testing.T) {
	s := newCrowded(t, tpm.V20)
	where := vtpmhost.Where{TPM: "swtpm:" + s.node, Log: filepath.Join(s.Dir, "log"), State: s.State(), Home: filepath.Join(s.Dir, "home")}
	m, err := vtpmhost.Open(where)
	must(t, err)
	defer m.Close()
	must(t, os.Mkdir(s.State(), 0o700))
	failed := 0
	for nth := 0; ; nth++ {
		seen := 0
		s.chip.SetBetween(func(cmd []byte, _ func([]byte) ([]byte, error)) ([]byte, error) {
			if seen++; seen-1 == nth && string(cmd[6:10]) != "\x00\x00\x01\x65" { // TPM2_FlushContext takes no room
				return s.chip.Refusal(0x902), nil // TPM_RC_OBJECT_MEMORY
			}
			return nil, nil
		})
		_, err := m.Init(false, nil)
		s.chip.SetBetween(nil)
		s.clean("after init")
		counters, e := tpm2.New(s.chip).HasCounters()
		must(t, e)
		_, e = os.Lstat(filepath.Join(s.State(), "root"))
		if made := err == nil; made != counters || made != (e == nil) {
			t.Fatalf("refused at command %d: %v, a counter: %v, a folder: %v", nth, err, counters, e)
		}
		if err == nil && seen <= nth {
			if failed < 20 {
				t.Errorf("only %d commands failed", failed)
			}
			return
		}
		if err == nil { // it went another way, or opening the store makes up for the last step
			counter, err := tpm2.New(s.chip).FindCounter(0x0180ae00)
			must(t, err)
			must(t, tpm2.New(s.chip).RemoveCounter(counter, nil))
			must(t, os.RemoveAll(s.State()))
			must(t, os.Mkdir(s.State(), 0o700))
			continue
		}
		if !errors.Is(err, tpm.ErrBusy) {
			t.Errorf("refused at command %d: %v", nth, err)
		}
		failed++
	}
}
