package emulator

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/antievilmaid/aem/internal/fdstore"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/tpm"
)

// The names of the descriptors that are an emulator's, for who keeps them.
const (
	FileControl = "control" // the socket of swtpm's control channel
	FileData    = "data"    // that of the guest's commands
	FileState   = "state"   // the folder of the state, which has no path outside the emulator's view
	FileProcess = "process" // a pidfd
	FileSaid    = "said"    // what swtpm writes to its standard error; without a reader that would kill it
)

// FileNames lists them.
var FileNames = []string{FileControl, FileData, FileState, FileProcess, FileSaid}

// Files are by their names descriptors with which another manager takes the emulator over ([Host.Adopt]) when this
// one has died. They are copies and the caller's to close. Config.Outlives comes before.
func (e *Emulator) Files() (map[string]*os.File, error) {
	if err := e.take(context.Background()); err != nil {
		return nil, err
	}
	defer e.release()
	files := map[string]*os.File{}
	for name, open := range map[string]func() (*os.File, error){
		FileControl: e.control.File,
		FileData:    e.data.File,
		FileState:   func() (*os.File, error) { return reopen(e.folder.dir) },
		FileProcess: e.process.handle,
		FileSaid:    func() (*os.File, error) { return reopen(e.process.stderr()) },
	} {
		f, err := open()
		if err != nil {
			closeAll(files)
			return nil, fmt.Errorf("have a vTPM's emulator kept: %w", err)
		}
		files[name] = f
	}
	return files, nil
}

// reopen copies a descriptor without changing how it blocks, as Fd does.
func reopen(f *os.File) (d *os.File, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	if e := raw.Control(func(fd uintptr) { d, err = duplicate(int(fd)) }); e != nil {
		return nil, e
	}
	return d, err
}

func closeAll(files map[string]*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// Adopt goes on with an emulator whose manager died, at any point of Execute. The TPM must have been on and not
// about to be switched: who calls says so. It waits for the command that was under way. Where that
// was Execute's, answer is its response, as far as the dead manager did not read it: it may be whole,
// cut off in front, or nothing.
//
// [Emulator.State] is what the emulator has written, which may be newer than what was ever stored. files
// are closed. ErrEnded says that the emulator is dead; on any other error it is killed.
func (h *Host) Adopt(ctx context.Context, v tpm.Version, files map[string]*os.File) (e *Emulator, answer []byte, err error) {
	defer closeAll(files)
	for _, name := range FileNames {
		if files[name] == nil {
			return nil, nil, fmt.Errorf("take over a vTPM's emulator: its %s was not kept", name)
		}
	}
	// From here on it is ours, also where something is wrong with it.
	o := &orphan{}
	if o.pidfd, err = fdstore.Pollable(files[FileProcess]); err != nil {
		return nil, nil, fmt.Errorf("take over a vTPM's emulator: %w", err)
	}
	if o.said, err = fdstore.Pollable(files[FileSaid]); err != nil {
		o.kill()
		o.pidfd.Close()
		return nil, nil, fmt.Errorf("take over a vTPM's emulator: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	over := context.AfterFunc(ctx, o.kill) // which ends the sockets, too
	e, answer, err = h.adopt(v, o, files)
	if !over() && err == nil {
		<-e.done
		return nil, nil, ctx.Err()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("take over a vTPM's emulator: %w", err)
	}
	return e, answer, nil
}

func (h *Host) adopt(v tpm.Version, o *orphan, files map[string]*os.File) (_ *Emulator, answer []byte, err error) {
	e := newEmulator(v)
	e.process = o
	defer func() {
		if err != nil {
			o.kill()
			o.close()
			if e.folder != nil {
				e.folder.close()
			}
		}
	}()
	dead := false
	if err := o.with(func(fd int) { dead = ended(fd) }); err != nil {
		return nil, nil, err
	}
	if dead {
		return nil, nil, fmt.Errorf("%w (while there was no manager)", ErrEnded)
	}
	if e.folder, err = h.openFolder(v, files[FileState]); err != nil {
		return nil, nil, err
	}
	if e.control, e.data, answer, err = swtpm.TakeOver(files[FileControl], files[FileData]); err != nil {
		return nil, nil, err
	}
	e.on = true
	// Whichever locality the last command had.
	if err = e.control.SetLocality(0); err == nil {
		_, err = e.folder.refresh()
	}
	if err != nil {
		e.control.Close()
		e.data.Close()
		return nil, nil, err
	}
	go e.wait(h)
	return e, answer, nil
}

// openFolder is the folder of a state by its descriptor alone.
func (h *Host) openFolder(v tpm.Version, dir *os.File) (*folder, error) {
	own, err := reopen(dir)
	if err != nil {
		return nil, err
	}
	f := &folder{names: fileNames(v), dir: own, remove: func() {}}
	// One without a memory file system of its own stands among ours, and is removed from there.
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", own.Fd()))
	if err == nil && filepath.Dir(path) == filepath.Clean(h.dir) && strings.HasPrefix(filepath.Base(path), "vtpm-") {
		f.remove = func() { os.RemoveAll(path) }
	}
	return f, nil
}
