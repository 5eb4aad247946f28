package fdstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/fdstore"
)

const role = "AEM_TEST_CHILD"

func TestMain(m *testing.M) {
	if r := os.Getenv(role); r != "" {
		if err := child(r); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		return
	}
	os.Exit(m.Run())
}

// child has a pipe held and dies, and the next one finds what was written into it.
func child(role string) error {
	taken := fdstore.Taken()
	if n := len(fdstore.Taken()); n != 0 {
		return fmt.Errorf("the second time %d were taken", n)
	}
	if role == "restless" {
		return errors.New("restless")
	}
	if len(taken) == 0 {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		if err := errors.Join(fdstore.Open().Put("reader", r), fdstore.Open().Put("writer", w)); err != nil {
			return err
		}
		w.Write([]byte("from the first"))
		unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	if len(taken) != 2 || len(taken["reader"]) != 1 || len(taken["writer"]) != 1 {
		return fmt.Errorf("taken: %v", taken)
	}
	for _, f := range []*os.File{taken["reader"][0], taken["writer"][0]} {
		if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			return fmt.Errorf("a child would inherit it (%v)", err)
		}
	}
	buf := make([]byte, 64)
	n, err := taken["reader"][0].Read(buf)
	if err != nil || string(buf[:n]) != "from the first" {
		return fmt.Errorf("read %q, %w", buf[:n], err)
	}
	// What a child's child sees is not its own.
	cmd := exec.Command("sh", "-c", "echo $LISTEN_FDS$LISTEN_PID$LISTEN_FDNAMES")
	if out, err := cmd.Output(); err != nil || strings.TrimSpace(string(out)) != "" {
		return fmt.Errorf("the environment still has %q (%v)", out, err)
	}
	return fdstore.Open().Remove("reader", "writer")
}

func command(role string) func(context.Context) *exec.Cmd {
	return func(ctx context.Context) *exec.Cmd {
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), "AEM_TEST_CHILD="+role)
		cmd.Stderr = os.Stderr
		return cmd
	}
}

func newKeeper(t *testing.T) *fdstore.Keeper {
	t.Helper()
	k, err := fdstore.NewKeeper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

func TestFilesOutliveTheirOwner(t *testing.T) {
	k := newKeeper(t)
	if err := k.Run(t.Context(), command("pipe")); err != nil {
		t.Error(err)
	}
	if names := k.Names(); len(names) != 0 {
		t.Errorf("these are held: %q", names)
	}
}

func TestRestlessChildIsGivenUp(t *testing.T) {
	k := newKeeper(t)
	if err := k.Run(t.Context(), func(ctx context.Context) *exec.Cmd {
		cmd := command("restless")(ctx)
		cmd.Stderr = nil
		return cmd
	}); !errors.Is(err, fdstore.ErrRestless) {
		t.Error(err)
	}
}

// systemd plays the service manager's part as its documents have it, byte for byte.
type systemd struct {
	*net.UnixConn
	t *testing.T
}

func newSystemd(t *testing.T, path string) systemd {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return systemd{c, t}
}

// next returns a message and its files.
func (s systemd) next() (string, []int) {
	s.t.Helper()
	buf, oob := make([]byte, 4096), make([]byte, 4096)
	n, o, _, _, err := s.ReadMsgUnix(buf, oob)
	if err != nil {
		s.t.Fatal(err)
	}
	var fds []int
	messages, err := unix.ParseSocketControlMessage(oob[:o])
	if err != nil {
		s.t.Fatal(err)
	}
	for i := range messages {
		list, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			s.t.Fatal(err)
		}
		fds = append(fds, list...)
	}
	return string(buf[:n]), fds
}

// barrier takes BARRIER=1 with one descriptor, alone in its message, and closes it (sd_notify(3)).
func (s systemd) barrier() {
	s.t.Helper()
	message, fds := s.next()
	if message != "BARRIER=1" || len(fds) != 1 {
		s.t.Fatalf("%q came with %d files", message, len(fds))
	}
	unix.Close(fds[0])
}

func TestWordsAreSystemds(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "notify"), "@aem-test-" + fmt.Sprint(os.Getpid())} {
		s := newSystemd(t, path)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		done := make(chan error)
		go func() { done <- fdstore.Open().Put("vtpm-1-data", w) }()
		message, fds := s.next()
		if want := "FDSTORE=1\nFDNAME=vtpm-1-data\nFDPOLL=0"; message != want || len(fds) != 1 {
			t.Fatalf("%q came with %d files", message, len(fds))
		}
		s.barrier()
		if err := <-done; err != nil {
			t.Error(err)
		}
		w.Close()
		// The file that arrived is the one that was sent.
		unix.Write(fds[0], []byte("x"))
		unix.Close(fds[0])
		if b, err := io.ReadAll(r); err != nil || string(b) != "x" {
			t.Errorf("%q, %v", b, err)
		}

		go func() { done <- fdstore.Open().Remove("vtpm-1-data", "vtpm-1-control") }()
		for _, name := range []string{"vtpm-1-data", "vtpm-1-control"} {
			if message, fds := s.next(); message != "FDSTOREREMOVE=1\nFDNAME="+name || len(fds) != 0 {
				t.Errorf("%q came with %d files", message, len(fds))
			}
		}
		s.barrier()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// What is handed over is what sd_listen_fds(3) says, and to that process alone.
func TestHandedOverAsListenFDs(t *testing.T) {
	k := newKeeper(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	put := exec.Command("sh", "-c", "exit 0")
	if err := k.Hand(put); err != nil {
		t.Fatal(err)
	}
	for _, v := range put.Env {
		if path, ok := strings.CutPrefix(v, "NOTIFY_SOCKET="); ok {
			t.Setenv("NOTIFY_SOCKET", path)
		}
	}
	for _, name := range []string{"one", "two"} {
		if err := fdstore.Open().Put(name, w); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	if diff := cmp.Diff([]string{"one", "two"}, k.Names()); diff != "" {
		t.Error(diff)
	}
	cmd := exec.Command("sh", "-c", `test $LISTEN_PID = $$ && echo $LISTEN_FDS $LISTEN_FDNAMES && echo x >&3 && echo y >&4`)
	if err := k.Hand(cmd); err != nil {
		t.Fatal(err)
	}
	if out, err := cmd.Output(); err != nil || string(out) != "2 one:two\n" {
		t.Errorf("%q, %v", out, err)
	}
	if err := fdstore.Open().Remove("one", "two"); err != nil {
		t.Error(err)
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != "x\ny\n" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestNameThatWouldBeAnotherMessage(t *testing.T) {
	newSystemd(t, filepath.Join(t.TempDir(), "notify"))
	for _, name := range []string{"", "a:b", "a\nFDSTOREREMOVE=1", "a b", strings.Repeat("a", 256), "ä"} {
		if err := fdstore.Open().Put(name, os.Stdin); err == nil {
			t.Errorf("%q was taken", name)
		}
		if err := fdstore.Open().Remove(name); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
}

func TestWithoutServiceManager(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if s := fdstore.Open(); s != nil {
		t.Errorf("there is one: %v", s)
	} else if err := errors.Join(s.Put("a", os.Stdin), s.Remove("a")); err != nil {
		t.Error(err)
	}
}

// Whatever a child sends, the keeper goes on.
func FuzzKeeper(f *testing.F) {
	for _, s := range []string{"READY=1", "FDSTORE=1\nFDNAME=a", "FDSTOREREMOVE=1", "FDSTORE=1\nFDNAME=a:b\n", "\n=\n==", ""} {
		f.Add(s)
	}
	k, err := fdstore.NewKeeper()
	if err != nil {
		f.Fatal(err)
	}
	cmd := exec.Command("true")
	if err := k.Hand(cmd); err != nil {
		f.Fatal(err)
	}
	var path string
	for _, v := range cmd.Env {
		if p, ok := strings.CutPrefix(v, "NOTIFY_SOCKET="); ok {
			path = p
		}
	}
	f.Cleanup(func() { k.Close() })
	f.Fuzz(func(t *testing.T, message string) {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		unix.Sendmsg(fd, []byte(message), unix.UnixRights(0), &unix.SockaddrUnix{Name: path}, 0)
		t.Setenv("NOTIFY_SOCKET", path)
		names := k.Names()
		if err := fdstore.Open().Remove(append(names, "stored")...); err != nil {
			t.Fatal(err)
		}
	})
}
