package emulator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/tpm"
)

// spawn starts swtpm over the files of cfg. The TPM is off.
func (h *Host) spawn(cfg Config) (e *Emulator, err error) {
	near, far, err := controlPair()
	if err != nil {
		return nil, err
	}
	defer far.Close()
	key, err := keyPipe(cfg.Key)
	if err != nil {
		near.Close()
		return nil, err
	}
	defer key.Close()

	said, told, err := os.Pipe()
	if err != nil {
		near.Close()
		return nil, fmt.Errorf("make a pipe for what a TPM emulator says: %w", err)
	}
	defer told.Close()

	e = newEmulator(cfg.Version)
	e.control = swtpm.NewControl(near)
	cmd := &exec.Cmd{
		Path: h.swtpm,
		Env:  []string{},
		// The descriptors 3 and 4 of the emulator.
		ExtraFiles:  []*os.File{far, key},
		Stdin:       h.null,
		Stdout:      h.null,
		Stderr:      told,
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true},
	}
	pidfd := -1
	if cfg.Outlives {
		cmd.SysProcAttr.Pdeathsig = 0
		cmd.SysProcAttr.PidFD = &pidfd
	}
	if h.root {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: cfg.UID, Gid: cfg.GID}
	}
	if h.view == nil {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS
	}
	var limited error
	err = h.onThread(func() error {
		path, err := e.makeFolder(h, cfg)
		if err != nil {
			return err
		}
		if h.view == nil {
			defer unmountState()
		}
		cmd.Args = h.arguments(path, cfg.Version)
		if err := cmd.Start(); err != nil {
			e.folder.close()
			return fmt.Errorf("start the TPM emulator: %w", err)
		}
		limited = limit(cmd.Process.Pid, cmd.SysProcAttr.Credential)
		return nil
	})
	if err != nil {
		said.Close()
		near.Close()
		return nil, err
	}
	e.process = &child{cmd, said, pidfd}
	e.turn <- struct{}{}
	defer e.release()
	go e.wait(h)
	err = limited
	if err == nil {
		e.data, err = e.control.OpenData()
	}
	if err != nil {
		return nil, e.broken(err)
	}
	return e, nil
}

func newEmulator(v tpm.Version) *Emulator {
	return &Emulator{version: v, turn: make(chan struct{}, 1), done: make(chan struct{}), gone: make(chan struct{})}
}

func (h *Host) arguments(dir string, v tpm.Version) []string {
	args := []string{h.swtpm, "socket", "--tpmstate", "dir=" + dir + ",mode=0600",
		"--ctrl", "type=unixio,clientfd=3", "--terminate",
		"--key", "fd=4,mode=aes-256-cbc,format=binary"}
	if h.can.filtersCalls() {
		args = append(args, "--seccomp", "action=kill") // which forbids it new privileges, too
	}
	if v == tpm.V20 {
		args = append(args, "--tpm2")
	}
	return args
}

// makeFolder makes the folder of the state and puts the state into it. It returns the path by which the emulator
// knows it.
func (e *Emulator) makeFolder(h *Host, cfg Config) (path string, err error) {
	f := &folder{names: fileNames(cfg.Version), remove: func() {}}
	if h.view == nil {
		path = stateDir
		f.dir, err = mountState(cfg.UID, cfg.GID)
	} else {
		if path, err = os.MkdirTemp(h.dir, "vtpm-"); err != nil {
			return "", fmt.Errorf("make a folder for a vTPM's state: %w", err)
		}
		f.remove = func() { os.RemoveAll(path) }
		if h.root {
			err = os.Chown(path, int(cfg.UID), int(cfg.GID))
		}
		if err == nil {
			f.dir, err = os.Open(path)
		}
	}
	if err == nil && cfg.State != nil {
		if err = f.put(f.permanent, cfg.State, cfg.UID, cfg.GID); err == nil {
			_, err = f.refresh()
		}
	}
	if err == nil && cfg.Volatile != nil {
		err = f.put(f.volatile, cfg.Volatile, cfg.UID, cfg.GID)
		e.asleep = true
	}
	if err != nil {
		if f.dir != nil {
			f.close()
		} else {
			f.remove()
		}
		if h.view == nil {
			unmountState()
		}
		return "", err
	}
	e.folder = f
	return path, nil
}

// limit bounds what an emulator that a guest has taken over can use up. It is for the Host's thread, which takes the
// emulator's real user for the moment: so a manager does not need CAP_SYS_RESOURCE (prlimit(2)).
func limit(pid int, as *syscall.Credential) error {
	if as != nil {
		// The C library's functions of these names, and Go's, change all threads. These change this one.
		const keep = ^uintptr(0)
		defer func() {
			unix.RawSyscall(unix.SYS_SETRESUID, 0, keep, keep)
			unix.RawSyscall(unix.SYS_SETRESGID, 0, keep, keep)
		}()
		unix.RawSyscall(unix.SYS_SETRESGID, uintptr(as.Gid), keep, keep)
		unix.RawSyscall(unix.SYS_SETRESUID, uintptr(as.Uid), keep, keep)
	}
	for resource, value := range map[int]uint64{
		unix.RLIMIT_FSIZE:  stateLimit,
		unix.RLIMIT_NOFILE: 16, // it has six, and a file and a folder while it writes
		unix.RLIMIT_CORE:   0,  // a core would hold the key
		unix.RLIMIT_NPROC:  0,
	} {
		if err := unix.Prlimit(pid, resource, &unix.Rlimit{Cur: value, Max: value}, nil); err != nil {
			return fmt.Errorf("limit what a TPM emulator can use: %w", err)
		}
	}
	return nil
}

func controlPair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a socket pair for the TPM emulator: %w", err)
	}
	near, far := os.NewFile(uintptr(fds[0]), "tpm control"), os.NewFile(uintptr(fds[1]), "tpm control, far end")
	conn, err := net.FileConn(near)
	near.Close()
	if err != nil {
		far.Close()
		return nil, nil, fmt.Errorf("open the TPM emulator's control channel: %w", err)
	}
	return conn.(*net.UnixConn), far, nil
}

// keyPipe is a pipe that holds the key until the emulator has read it: the key has no name, is on no disk, and is gone from
// the pipe before a guest can send its first command.
func keyPipe(key []byte) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe for a vTPM's key: %w", err)
	}
	_, err = w.Write(key)
	if err = errors.Join(err, w.Close()); err != nil {
		r.Close()
		return nil, fmt.Errorf("hand a vTPM its key: %w", err)
	}
	return r, nil
}

// wait ends what belongs to the process when it has ended, for whatever reason.
func (e *Emulator) wait(h *Host) {
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		io.Copy(&e.said, e.process.stderr())
	}()
	stop := context.AfterFunc(h.alive, e.process.kill)
	how := e.process.wait()
	stop()
	<-heard
	e.ended = fmt.Errorf("%w (%s)", ErrEnded, how)
	if last := e.said.line(); last != "" {
		e.ended = fmt.Errorf("%w (%s); it said last: %q", ErrEnded, how, last)
	}
	close(e.done)
	e.turn <- struct{}{} // who is at work reads what the process still wrote, then its end, and leaves
	e.control.Close()
	if e.data != nil {
		e.data.Close()
	}
	e.process.close()
	e.folder.close()
	<-e.turn
	close(e.gone)
}

// lastLine keeps the last line that was written, at most 200 bytes of it. A guest can make an emulator write without end.
type lastLine struct {
	mu   sync.Mutex
	tail []byte
}

func (l *lastLine) Write(p []byte) (int, error) {
	const most = 200
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = append(l.tail, p[max(0, len(p)-most):]...)
	if i := bytes.LastIndexByte(bytes.TrimRight(l.tail, "\n"), '\n'); i >= 0 {
		l.tail = append(l.tail[:0], l.tail[i+1:]...)
	}
	if over := len(l.tail) - most; over > 0 {
		l.tail = append(l.tail[:0], l.tail[over:]...)
	}
	return len(p), nil
}

// ReadFrom takes what an emulator says until it ends. Without it, who copies that has a buffer of 32 KB for each
// emulator, most of which never say anything.
func (l *lastLine) ReadFrom(r io.Reader) (n int64, err error) {
	var b [256]byte
	for {
		k, err := r.Read(b[:])
		l.Write(b[:k])
		n += int64(k)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

func (l *lastLine) line() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.TrimSpace(string(l.tail))
}
