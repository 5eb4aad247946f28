package fdstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Keeper stands in for systemd: it holds the files that its child sends, and hands them to the
// next one.
type Keeper struct {
	dir  string
	conn *net.UnixConn
	done chan struct{}

	mu   sync.Mutex
	held []held
}

type held struct {
	name string
	file *os.File
}

// NewKeeper begins to listen to children.
func NewKeeper() (*Keeper, error) {
	dir, err := os.MkdirTemp("", "keeper-") // for nobody but us: who can send can put files
	if err != nil {
		return nil, fmt.Errorf("make a folder for the keeper's socket: %w", err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("make the keeper's socket: %w", err)
	}
	k := &Keeper{dir: dir, conn: conn, done: make(chan struct{})}
	go k.listen()
	return k, nil
}

// Close closes all that is held.
func (k *Keeper) Close() error {
	err := k.conn.Close()
	<-k.done
	k.drop(func(string) bool { return true })
	return errors.Join(err, os.RemoveAll(k.dir))
}

// Names lists what is held, sorted.
func (k *Keeper) Names() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var names []string
	for _, h := range k.held {
		names = append(names, h.name)
	}
	slices.Sort(names)
	return names
}

// Hand lets a command that was not started yet send files, and hands it what is held. The command is
// started by a shell, which alone can name its own process in LISTEN_PID before it becomes the command's.
func (k *Keeper) Hand(cmd *exec.Cmd) error {
	if len(cmd.ExtraFiles) != 0 {
		return errors.New("the command inherits other files already, and what is held comes first")
	}
	sh, err := exec.LookPath("sh")
	if err != nil {
		return err
	}
	if err := k.settle(); err != nil {
		return err
	}
	cmd.Args = append([]string{"sh", "-c", `LISTEN_PID=$$; export LISTEN_PID; exec "$@"`, "sh", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = sh
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	var names []string
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range k.held {
		names = append(names, h.name)
		cmd.ExtraFiles = append(cmd.ExtraFiles, h.file)
	}
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+filepath.Join(k.dir, "notify"),
		"LISTEN_FDS="+strconv.Itoa(len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	return nil
}

// settle waits until all that a dead child sent is here.
func (k *Keeper) settle() error {
	return k.Store().barrier()
}

// Store is what its child opens.
func (k *Keeper) Store() *Store { return &Store{filepath.Join(k.dir, "notify")} }

// ErrRestless says that a child dies as soon as it is started.
var ErrRestless = errors.New("it ends again and again, and is not started any more")

// As systemd does by default (StartLimitBurst=, StartLimitIntervalSec=).
const (
	burst    = 5
	interval = 10 * time.Second
)

// Run runs what command makes, again and again, until it ends without a fault or ctx is over; then it is
// told by SIGTERM, and waited for.
func (k *Keeper) Run(ctx context.Context, command func(context.Context) *exec.Cmd) error {
	var starts []time.Time
	for {
		if starts = append(starts, time.Now()); len(starts) > burst {
			if starts[burst].Sub(starts[0]) < interval {
				return ErrRestless
			}
			starts = starts[1:]
		}
		cmd := command(ctx)
		cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
		if err := k.Hand(cmd); err != nil {
			return err
		}
		err := cmd.Run()
		if err == nil || ctx.Err() != nil || cmd.ProcessState == nil {
			return err
		}
	}
}

func (k *Keeper) listen() {
	defer close(k.done)
	buf, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4*253)) // SCM_MAX_FD
	for {
		n, goob, flags, _, err := k.conn.ReadMsgUnix(buf, oob)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			continue
		}
		files := descriptors(oob[:goob])
		if flags&unix.MSG_TRUNC == 0 {
			files = k.heard(parse(string(buf[:n])), files)
		}
		for _, f := range files {
			f.Close() // a barrier's, too: by then all before it was done
		}
	}
}

// heard does what a message says, and returns the files that are not held.
func (k *Keeper) heard(m map[string]string, files []*os.File) []*os.File {
	name, named := m["FDNAME"]
	if !named {
		name = "stored" // as systemd calls what has no name
	}
	if checkName(name) != nil {
		return files
	}
	switch {
	case m["FDSTOREREMOVE"] == "1" && named:
		k.drop(func(n string) bool { return n == name })
	case m["FDSTORE"] == "1":
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, f := range files {
			k.held = append(k.held, held{name, f})
		}
		return nil
	}
	return files
}

func (k *Keeper) drop(which func(string) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held = slices.DeleteFunc(k.held, func(h held) bool {
		if which(h.name) {
			h.file.Close()
			return true
		}
		return false
	})
}

// parse reads the assignments of a message, one on each line.
func parse(message string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(message) {
		if k, v, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok {
			m[k] = v
		}
	}
	return m
}

func descriptors(oob []byte) (files []*os.File) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // credentials or the like
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "held"))
		}
	}
	return files
}
