package emulator

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Host starts emulators and gives each the same empty view of the machine.
type Host struct {
	swtpm string
	can   features
	dir   string
	null  *os.File
	root  bool
	view  error // why there is no view; nil where there is one

	// work is done on one thread that lives as long as the Host: emulators are its children, inherit its
	// root, and die with it (PR_SET_PDEATHSIG is about the thread, prctl(2)), unless Config.Outlives.
	work  chan func()
	alive context.Context // until Close
	close func()
}

// NewHost finds swtpm and, where it may, builds the view: a mount namespace with swtpm, its
// libraries and nothing else. dir is where emulators' states stand where no memory file system
// can be mounted; each has a folder of its own there.
//
// It works with less than it wants, and [Host.Missing] says what that is.
func NewHost(dir string) (*Host, error) {
	path, err := exec.LookPath("swtpm")
	if err != nil {
		return nil, fmt.Errorf("find the TPM emulator, which the package swtpm brings: %w", err)
	}
	// The view has no links that lead to it.
	if path, err = filepath.EvalSymlinks(path); err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, fmt.Errorf("find the TPM emulator: %w", err)
	}
	can, err := probe(path)
	if err != nil {
		return nil, err
	}
	// Opened here, because the view has no devices.
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open the null device: %w", err)
	}
	h := &Host{swtpm: path, can: can, dir: dir, null: null, root: os.Geteuid() == 0, work: make(chan func())}
	h.alive, h.close = context.WithCancel(context.Background())
	ready := make(chan error)
	onOwnThread(func() {
		err := enterView(path)
		ready <- err
		if err != nil {
			onOwnThread(h.serve) // not on one that has half a view
			return
		}
		h.serve()
	})
	h.view = <-ready
	return h, nil
}

func (h *Host) serve() {
	for {
		select {
		case f := <-h.work:
			f()
		case <-h.alive.Done():
			return
		}
	}
}

// onOwnThread runs f on a thread that no other goroutine gets, and that ends with f.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread() // and never unlocked: so the thread ends with this goroutine
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		// The main thread does not end, and its root is what others take for the process's. It
		// is held until another one was found.
		defer runtime.UnlockOSThread()
		found := make(chan struct{})
		onOwnThread(func() { close(found); f() })
		<-found
	}()
}

// Close ends the emulators that still run, as a power cut would, and gives back the view.
func (h *Host) Close() error {
	h.close()
	return h.null.Close()
}

// onThread runs f where emulators are started.
func (h *Host) onThread(f func() error) error {
	done := make(chan error, 1)
	select {
	case h.work <- func() { done <- f() }:
		return <-done
	case <-h.alive.Done():
		return errors.New("the host of the vTPMs is closed")
	}
}

// Missing lists the protections that emulators do not have here, as sentences for an administrator.
func (h *Host) Missing() []string {
	var list []string
	if !h.root {
		list = append(list, "emulators run as the manager's own user, because the manager is not root")
	}
	if h.view != nil {
		list = append(list, fmt.Sprintf("emulators see the machine's files, processes and network, because namespaces can't be made: %v", h.view))
	}
	if !h.can.filtersCalls() {
		list = append(list, "emulators may make any system call, because this swtpm was built without seccomp")
	}
	if h.view != nil && !inMemory(h.dir) {
		list = append(list, fmt.Sprintf("emulators' states (encrypted) stand on a disk, because %s is no memory file system", h.dir))
	}
	return list
}

func inMemory(dir string) bool {
	var s unix.Statfs_t
	return unix.Statfs(dir, &s) == nil && s.Type == unix.TMPFS_MAGIC
}
