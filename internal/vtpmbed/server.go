// Package vtpmbed is a machine under test on which vtpmd runs: an emulated TPM, really
// launched, and the daemon as a program of its own, so that it can be killed.
package vtpmbed

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
	"github.com/antievilmaid/aem/tpm2"
	"github.com/antievilmaid/aem/vtpm/admin"
	"github.com/antievilmaid/aem/vtpm/manager"
)

// Server is an emulated machine that runs guests.
type Server struct {
	t testing.TB
	// Dir holds everything that the machine has: state, home, log, run.
	Dir    string
	Launch drtm.LinuxLaunch
	*admin.Client

	socket  string // of its TPM
	program func(args ...string) *exec.Cmd
}

// New is one that was launched with the command line "approved", and not set up yet. program runs
// vtpmd.
func New(t testing.TB, v tpm.Version, program func(args ...string) *exec.Cmd) *Server {
	t.Helper()
	testbed.Need(t, "swtpm")
	dir, err := os.MkdirTemp("", "vtpmd-") // a socket's path must be short
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	conn, chip := testbed.NewForeignTPM(t, v)
	conn.Close() // each program opens the TPM for itself
	s := &Server{t: t, program: program, socket: chip.Socket(), Dir: dir, Launch: testbed.SampleLaunch(drtm.TXT, v), Client: admin.NewClient(filepath.Join(dir, "run", "admin.sock"))}
	s.Boot("approved")
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Restart cuts the machine's power after an orderly end.
func (s *Server) Restart(then func(conn *swtpm.TPM)) {
	s.t.Helper()
	conn, err := swtpm.Dial(s.socket)
	must(s.t, err)
	defer conn.Close()
	must(s.t, testbed.PowerOff(conn, s.Launch.Version))
	must(s.t, testbed.PowerOn(conn, s.Launch.Version))
	must(s.t, os.WriteFile(filepath.Join(s.Dir, "log"), nil, 0o600))
	then(conn)
}

// Boot restarts the machine and launches Linux with a command line.
func (s *Server) Boot(line string) {
	s.t.Helper()
	s.Restart(func(conn *swtpm.TPM) {
		s.Launch.CommandLine = line
		log, err := testbed.LaunchLinux(conn, s.Launch)
		must(s.t, err)
		must(s.t, os.WriteFile(filepath.Join(s.Dir, "log"), log, 0o600))
	})
}

// State is the folder of the store.
func (s *Server) State() string { return filepath.Join(s.Dir, "state") }

// TPM is the machine's TPM, as device.Options.Spec. One program at a time can have it.
func (s *Server) TPM() string { return "swtpm:" + s.socket }

// Where are the arguments that name the machine.
func (s *Server) Where() []string {
	return []string{"--tpm", s.TPM(), "--launch-log", filepath.Join(s.Dir, "log"), "--state", s.State(), "--home", filepath.Join(s.Dir, "home")}
}

// Do runs vtpmd to its end, and demands an exit code and words.
func (s *Server) Do(exit aem.Exit, words string, args ...string) string {
	s.t.Helper()
	out, err := s.program(append(args, s.Where()...)...).CombinedOutput()
	got := aem.ExitOK
	var e *exec.ExitError
	if errors.As(err, &e) {
		got = aem.Exit(e.ExitCode())
	} else if err != nil {
		s.t.Fatal(err)
	}
	if got != exit || !strings.Contains(string(out), words) {
		s.t.Fatalf("vtpmd %q: exit %d, %s; want %d and %q", args, got, out, exit, words)
	}
	return string(out)
}

// Running is a vtpmd that serves.
type Running struct {
	t   testing.TB
	cmd *exec.Cmd
	mu  sync.Mutex
	log bytes.Buffer
	end chan error

	more chan struct{} // closed when it says more
}

// Write takes what it says.
func (r *Running) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.more)
	r.more = make(chan struct{})
	return r.log.Write(b)
}

// Until waits until it says something so many times.
func (r *Running) Until(words string, times int) {
	r.t.Helper()
	for limit := time.After(3 * time.Minute); ; {
		r.mu.Lock()
		said, more := r.log.String(), r.more
		r.mu.Unlock()
		if strings.Count(said, words) >= times {
			return
		}
		select {
		case <-more:
		case err := <-r.end:
			r.t.Fatalf("it ended before it said %q: %v\n%s", words, err, said)
		case <-limit:
			r.t.Fatalf("it did not say %q:\n%s", words, said)
		}
	}
}

// Said is what it wrote into its log.
func (r *Running) Said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

// Start starts vtpmd and returns when it says that it is ready.
func (s *Server) Start(args ...string) *Running {
	s.t.Helper()
	ready, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(s.Dir, "notify"), Net: "unixgram"})
	must(s.t, err)
	defer os.Remove(filepath.Join(s.Dir, "notify"))
	defer ready.Close()
	r := &Running{t: s.t, cmd: s.program(append(append([]string{"--run", filepath.Join(s.Dir, "run"), "--users", "8"}, args...), s.Where()...)...), end: make(chan error, 1), more: make(chan struct{})}
	if r.cmd.Env == nil {
		r.cmd.Env = os.Environ()
	}
	r.cmd.Env = append(r.cmd.Env, "NOTIFY_SOCKET="+filepath.Join(s.Dir, "notify"))
	r.cmd.Stderr = r
	must(s.t, r.cmd.Start())
	s.t.Cleanup(func() { r.cmd.Process.Kill() })
	go func() { r.end <- r.cmd.Wait() }()
	told := make(chan string, 1)
	go func() {
		b := make([]byte, 1024)
		n, _ := ready.Read(b)
		told <- string(b[:n])
	}()
	select {
	case text := <-told:
		if !strings.HasPrefix(text, "READY=1") {
			s.t.Fatalf("systemd was told %q", text)
		}
	case err := <-r.end:
		s.t.Fatalf("vtpmd ended: %v\n%s", err, r.Said())
	}
	return r
}

// Stop ends vtpmd as systemd does.
func (r *Running) Stop() {
	r.t.Helper()
	must(r.t, r.cmd.Process.Signal(syscall.SIGTERM))
	if err := <-r.end; err != nil {
		r.t.Fatalf("it did not end in order: %v\n%s", err, r.Said())
	}
}

// Kill ends it as a fault would.
func (r *Running) Kill() {
	r.t.Helper()
	must(r.t, r.cmd.Process.Kill())
	<-r.end
}

// New makes a vTPM that QEMU run by this test can reach.
func (s *Server) New(name, family string) admin.VTPM {
	s.t.Helper()
	me := uint32(os.Geteuid())
	v, err := s.Create(context.Background(), admin.Making{Name: name, Family: family, Policy: manager.Policy{QEMU: &me}})
	must(s.t, err)
	return v
}

// Identity comes as QEMU does, powers a vTPM on and reads who it is.
func (s *Server) Identity(v admin.VTPM) string {
	s.t.Helper()
	return s.IdentityAt(v.Socket, v.Family, func() {})
}

// IdentityAt is Identity at any swtpm's control socket. meanwhile runs while the TPM is on.
func (s *Server) IdentityAt(socket, family string, meanwhile func()) string {
	s.t.Helper()
	conn := s.Guest(socket)
	defer conn.Close()
	var who []byte
	var err error
	if family == "1.2" {
		who, err = tpm12.New(conn).ReadEK()
	} else {
		testbed.PowerOn(conn, tpm.V20) // a vTPM is started already, and says so
		who, err = tpm2.New(conn).EndorsementName()
	}
	must(s.t, err)
	meanwhile()
	return string(who)
}

// Guest comes as QEMU does, to a socket that may only just be made, and powers a TPM on.
func (s *Server) Guest(socket string) *swtpm.TPM {
	s.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; {
		conn, err := swtpm.Dial(socket)
		if err == nil {
			must(s.t, conn.Init())
			return conn
		}
		if time.Now().After(end) {
			s.t.Fatal(err)
		}
	}
}
