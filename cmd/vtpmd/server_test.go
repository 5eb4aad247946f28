package main

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

// asDaemon makes the test's own program vtpmd, so that it can be killed.
const asDaemon = "VTPMD_IS_THIS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asDaemon) != "" {
		main()
	}
	os.Exit(m.Run())
}

// server is an emulated machine that runs guests.
type server struct {
	t      *testing.T
	socket string // of its TPM
	dir    string
	launch drtm.LinuxLaunch
	*admin.Client
}

// newServer is one that was launched with the command line "approved", and not set up yet.
func newServer(t *testing.T, v tpm.Version) *server {
	t.Helper()
	testbed.Need(t, "swtpm")
	dir, err := os.MkdirTemp("", "vtpmd-") // a socket's path must be short
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	conn, emulator := testbed.NewForeignTPM(t, v)
	conn.Close() // each program opens the TPM for itself
	s := &server{t: t, socket: emulator.Socket(), dir: dir, launch: testbed.SampleLaunch(drtm.TXT, v), Client: admin.NewClient(filepath.Join(dir, "run", "admin.sock"))}
	s.boot("approved")
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// restart cuts the machine's power after an orderly end.
func (s *server) restart(then func(conn *swtpm.TPM)) {
	s.t.Helper()
	conn, err := swtpm.Dial(s.socket)
	must(s.t, err)
	defer conn.Close()
	must(s.t, testbed.PowerOff(conn, s.launch.Version))
	must(s.t, testbed.PowerOn(conn, s.launch.Version))
	must(s.t, os.WriteFile(filepath.Join(s.dir, "log"), nil, 0o600))
	then(conn)
}

// boot restarts the machine and launches Linux with a command line.
func (s *server) boot(line string) {
	s.t.Helper()
	s.restart(func(conn *swtpm.TPM) {
		s.launch.CommandLine = line
		log, err := testbed.LaunchLinux(conn, s.launch)
		must(s.t, err)
		must(s.t, os.WriteFile(filepath.Join(s.dir, "log"), log, 0o600))
	})
}

func (s *server) state() string { return filepath.Join(s.dir, "state") }

// where are the arguments that name the machine.
func (s *server) where() []string {
	return []string{"--tpm", "swtpm:" + s.socket, "--launch-log", filepath.Join(s.dir, "log"), "--state", s.state(), "--home", filepath.Join(s.dir, "home")}
}

func (s *server) program(args ...string) *exec.Cmd {
	s.t.Helper()
	self, err := os.Executable()
	must(s.t, err)
	c := exec.Command(self, append(args, s.where()...)...)
	c.Env = append(os.Environ(), asDaemon+"=1")
	return c
}

// do runs vtpmd to its end, and demands an exit code and words.
func (s *server) do(exit aem.Exit, words string, args ...string) string {
	s.t.Helper()
	out, err := s.program(args...).CombinedOutput()
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

// running is a vtpmd that serves.
type running struct {
	t   *testing.T
	cmd *exec.Cmd
	mu  sync.Mutex
	log bytes.Buffer
	end chan error
}

func (r *running) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(b)
}

func (r *running) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

// start starts vtpmd and returns when it says that it is ready.
func (s *server) start(args ...string) *running {
	s.t.Helper()
	ready, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(s.dir, "notify"), Net: "unixgram"})
	must(s.t, err)
	defer os.Remove(filepath.Join(s.dir, "notify"))
	defer ready.Close()
	r := &running{t: s.t, cmd: s.program(append([]string{"--run", filepath.Join(s.dir, "run"), "--users", "8"}, args...)...), end: make(chan error, 1)}
	r.cmd.Env = append(r.cmd.Env, "NOTIFY_SOCKET="+filepath.Join(s.dir, "notify"))
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
		s.t.Fatalf("vtpmd ended: %v\n%s", err, r.said())
	case <-time.After(time.Minute):
		s.t.Fatalf("vtpmd was not ready within a minute:\n%s", r.said())
	}
	return r
}

// stop ends vtpmd as systemd does.
func (r *running) stop() {
	r.t.Helper()
	must(r.t, r.cmd.Process.Signal(syscall.SIGTERM))
	if err := <-r.end; err != nil {
		r.t.Fatalf("it did not end in order: %v\n%s", err, r.said())
	}
}

// kill ends it as a fault would.
func (r *running) kill() {
	r.t.Helper()
	must(r.t, r.cmd.Process.Kill())
	<-r.end
}

// create makes a vTPM that QEMU run by this test can reach.
func (s *server) create(name, family string) admin.VTPM {
	s.t.Helper()
	me := uint32(os.Geteuid())
	v, err := s.Create(context.Background(), admin.Making{Name: name, Family: family, Policy: manager.Policy{QEMU: &me}})
	must(s.t, err)
	return v
}

// identity comes as QEMU does, powers the vTPM on and reads who it is.
func (s *server) identity(v admin.VTPM) string {
	s.t.Helper()
	conn, err := swtpm.Dial(v.Socket)
	must(s.t, err)
	defer conn.Close()
	must(s.t, conn.Init())
	var who []byte
	if v.Family == "1.2" {
		who, err = tpm12.New(conn).ReadEK()
	} else {
		who, err = tpm2.New(conn).EndorsementName()
	}
	must(s.t, err)
	return string(who)
}
