package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/journal"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/manager"
)

// requests are all that there are, and who may make them.
var requests = map[string]role{
	"GET /v1/status": looker, "GET /v1/vtpms": looker, "GET /v1/vtpms/x": looker, "GET /v1/vtpms/x/log": looker, "GET /metrics": looker,
	"POST /v1/vtpms": owner, "DELETE /v1/vtpms/x": owner, "POST /v1/run": owner, "POST /v1/stop": owner, "POST /v1/boot": owner, "POST /v1/suspend": owner, "POST /v1/resume": owner,
	"POST /v1/approve": owner, "POST /v1/verify": owner, "GET /v1/backup": owner, "POST /v1/escrow": owner, "GET /v1/audit": owner, "POST /v1/audit/accept": owner,
}

// Nobody gets as far as a request's meaning who may not make it.
func TestRoles(t *testing.T) {
	const group = 4242
	s := &Server{Group: group, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	for _, c := range []struct {
		name string
		peer *peer
		may  role
	}{
		{"nobody knows", nil, nobody},
		{"a stranger", &peer{uid: 12345, groups: []uint32{12345, 7}}, nobody},
		{"somebody of the group", &peer{uid: 12345, groups: []uint32{12345, group}}, looker},
	} {
		for request, least := range requests {
			method, path, _ := strings.Cut(request, " ")
			ctx := t.Context()
			if c.peer != nil {
				ctx = context.WithValue(ctx, peerKey{}, c.peer)
			}
			w := httptest.NewRecorder()
			refused := func() (refused bool) {
				// What is let through meets a server without a manager.
				defer func() { recover() }()
				s.handler().ServeHTTP(w, httptest.NewRequestWithContext(ctx, method, path, nil))
				return w.Code == http.StatusForbidden
			}()
			if refused != (c.may < least) {
				t.Errorf("%s, %s: refused: %t (%d %s)", c.name, request, refused, w.Code, w.Body)
			}
		}
	}
	if got := (&peer{uid: 12345, groups: []uint32{0}}).role(0, 1); got != nobody {
		t.Errorf("without a group, root's group has the role %d", got)
	}
	for _, p := range []*peer{{uid: 0}, {uid: 1000}} {
		if p.role(0, 1000) != owner {
			t.Errorf("user %d is not the owner of user 1000's server", p.uid)
		}
	}
}

// fake is a host that knows a little.
type fake struct{}

func (fake) Status() (Status, error)                     { return Status{Grade: "launched", VTPMs: 3}, nil }
func (fake) Approve() (*Approval, error)                 { return nil, errors.New("nothing is approved") }
func (fake) Journal() (*journal.Journal, error)          { return nil, errors.New("it was cut") }
func (fake) Escrow(string) ([]byte, error)               { return nil, errors.New("there is no key") }
func (fake) AcceptJournal() error                        { return nil }
func (fake) Socket(u vtpm.UUID, _ manager.Policy) string { return "/run/" + u.String() }
func (fake) Made(vtpm.UUID, manager.Policy)              {}
func (fake) Removed(vtpm.UUID)                           {}

// asPeer makes the test's own program one that asks at a socket.
const asPeer = "ADMIN_TEST_SOCKET"

func TestMain(m *testing.M) {
	if path := os.Getenv(asPeer); path != "" {
		c := NewClient(path)
		_, status := c.Status(context.Background())
		_, approve := c.Approve(context.Background())
		fmt.Printf("%v, %v\n", status == nil, approve)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serve serves on a real socket.
func serve(t *testing.T, group uint32) (path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "admin-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "s")
	l, err := Listen(path, group)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	s := &Server{Host: fake{}, Group: group, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return path
}

// The kernel says who asks: the owner, a member of the group (be it his second one), a stranger.
func TestPeers(t *testing.T) {
	path := serve(t, 0)
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p, err := peerOf(conn.(*net.UnixConn))
	if err != nil || p.pid != os.Getpid() || p.uid != uint32(os.Geteuid()) || p.groups[0] != uint32(os.Getegid()) {
		t.Errorf("the one who listens is %+v, %v", p, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %v, %v", info.Mode(), err)
	}
	if _, err := Listen(path, 0); err == nil {
		t.Error("a second server took the first one's socket")
	}
	if _, err := NewClient(path).Approve(t.Context()); err == nil || err.Error() != "nothing is approved" {
		t.Errorf("the owner was answered %v", err)
	}
	if os.Geteuid() != 0 {
		return // only root can be somebody else
	}
	const group = 4242
	path = serve(t, group)
	for _, c := range []struct {
		credential syscall.Credential
		want       string
	}{
		{syscall.Credential{}, "true, nothing is approved\n"},
		{syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{100, group}}, "true, only root may do this, and you are user 65534\n"},
		{syscall.Credential{Uid: 65534, Gid: group}, "true, only root may do this, and you are user 65534\n"},
		{syscall.Credential{Uid: 65534, Gid: 65534}, "false, only root, and the group that vtpmd was told of, may connect to " + path + "\n"},
	} {
		if got := ask(t, path, c.credential); got != c.want {
			t.Errorf("%+v: %q; want %q", c.credential, got, c.want)
		}
	}
	// Were the mode loosened by accident, the server would still know who asks.
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, path, syscall.Credential{Uid: 65534, Gid: 65534}); !strings.HasPrefix(got, "false, only root, and the group") {
		t.Errorf("a stranger was answered %q", got)
	}
}

// ask asks as somebody else.
func ask(t *testing.T, path string, who syscall.Credential) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(filepath.Dir(path), "asks"+strconv.Itoa(int(who.Uid)))
	if b, err := os.ReadFile(self); err != nil {
		t.Fatal(err)
	} else if err := os.WriteFile(program, b, 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program)
	c.Env = []string{asPeer + "=" + path}
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &who}
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

// A client says what is not there, and the journal's fault arrives.
func TestClientErrors(t *testing.T) {
	if _, err := NewClient(filepath.Join(t.TempDir(), "none")).Status(t.Context()); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("without a daemon: %v", err)
	}
	c := NewClient(serve(t, 0))
	if err := c.Audit(t.Context(), func(journal.Entry) {}); err == nil || err.Error() != "it was cut" {
		t.Errorf("the journal's fault: %v", err)
	}
	var e *Error
	if _, err := c.Show(t.Context(), "x"); !errors.As(err, &e) || e.Status != http.StatusBadRequest {
		t.Errorf("no UUID: %v", err)
	}
	if diff := cmp.Diff(http.StatusNotFound, func() int {
		err := c.ask(t.Context(), "GET", "/v2/anything", nil, nil)
		if errors.As(err, &e) {
			return e.Status
		}
		return 0
	}()); diff != "" {
		t.Error(diff)
	}
}
