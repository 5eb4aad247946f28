package stage1

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/u-root/u-root/pkg/boot/kexec"
	"github.com/u-root/u-root/pkg/boot/multiboot"
	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/drtm"
)

// ErrUEFI says that Xen can't be started on a machine with UEFI as it was asked for.
var ErrUEFI = errors.New("a machine with UEFI can't start Xen in this way")

// Loader hands a stage to the kernel, which starts it later.
type Loader struct {
	// EFI says that the machine has UEFI firmware.
	EFI bool
}

// ThisMachine is the loader for the machine that it runs on.
func ThisMachine() Loader {
	_, err := os.Stat("/sys/firmware/efi")
	return Loader{EFI: err == nil}
}

// Load loads a stage, with the log that goes on to it. Nothing runs yet.
func (l Loader) Load(s *drtm.Stage, eventlog []byte) error {
	loaded, err := handOver(s, eventlog)
	if err != nil {
		return err
	}
	if s.Kind == drtm.Xen {
		return l.loadXen(loaded)
	}
	return loadLinux(loaded)
}

// loadLinux lets the running kernel load another one (kexec_file_load(2)). The files
// that it takes are sealed memory: what it reads are the bytes that were hashed.
func loadLinux(s *drtm.Stage) error {
	kernel, err := memoryFile("kernel", s.Image)
	if err != nil {
		return err
	}
	defer kernel.Close()
	initrd, err := memoryFile("initrd", s.Initrd)
	if err != nil {
		return err
	}
	defer initrd.Close()
	if err := kexec.FileLoad(kernel, initrd, s.Line); err != nil {
		return fmt.Errorf("load the kernel: %w", err)
	}
	return nil
}

// memoryFile is a file in memory that nobody can write to any more. The kernel refuses
// to load from a file that somebody has open for writing, hence the second opening.
func memoryFile(name string, content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("put the %s into memory: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return nil, fmt.Errorf("put the %s into memory: %w", name, err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return nil, fmt.Errorf("seal the %s in memory: %w", name, err)
	}
	readOnly, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, fmt.Errorf("open the %s in memory (is /proc mounted?): %w", name, err)
	}
	return readOnly, nil
}

// loadXen lets u-root prepare Xen and its modules by Multiboot 1, adds what Xen needs
// under UEFI, and gives it to the kernel (kexec_load(2)).
func (l Loader) loadXen(s *drtm.Stage) error {
	if l.EFI && !slices.Contains(strings.Fields(s.Line), "no-real-mode") {
		return fmt.Errorf("%w: give it no-real-mode on its command line, because there is no BIOS that it could call", ErrUEFI)
	}
	line, modules := multibootModules(s)
	x, err := prepare(s.Image, line, modules)
	if err != nil {
		return fmt.Errorf("load Xen: %w", err)
	}
	if l.EFI {
		pointer, err := findRootPointer("/")
		if err == nil {
			x, err = x.withRootPointer(line, pointer)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUEFI, err)
		}
	}
	if err := kexec.Load(x.entry, x.segments, 0); err != nil {
		return fmt.Errorf("load Xen: %w", err)
	}
	return nil
}

// prepare keeps u-root's loader from reporting to the standard logger, on a console that
// a person reads.
func prepare(image []byte, line string, modules []multiboot.Module) (x prepared, err error) {
	quiet.Lock()
	defer quiet.Unlock()
	out := log.Writer()
	log.SetOutput(io.Discard)
	defer log.SetOutput(out)
	x.entry, x.segments, err = multiboot.PrepareLoad(false, bytes.NewReader(image), line, modules, nil)
	return x, err
}

var quiet sync.Mutex // over the standard logger's output

// multibootModules are lines and modules as Multiboot 1 wants them: with a file's name
// before each line, which Xen drops. What follows it is the line that was measured.
func multibootModules(s *drtm.Stage) (line string, modules []multiboot.Module) {
	for i, m := range s.Modules {
		name := "module"
		switch i {
		case 0:
			name = "kernel"
		case 1:
			name = "initrd"
		}
		modules = append(modules, multiboot.Module{Module: &untouched{content: bytes.NewReader(m.Content)}, Cmdline: name + " " + m.Line})
	}
	return "xen " + s.Line, modules
}

// untouched keeps u-root's loader from unpacking a module behind our back, so that what
// runs is what was measured. The loader tries each module with gzip first, and takes it
// as it is where that fails: so the first read fails. Should a later version of the
// loader ask otherwise, then loading fails, and nothing unmeasured runs.
type untouched struct {
	content *bytes.Reader
	asked   bool
}

var errUntouched = errors.New("a module is not to be unpacked")

func (u *untouched) ReadAt(p []byte, off int64) (int, error) {
	if !u.asked {
		u.asked = true
		return 0, errUntouched
	}
	return u.content.ReadAt(p, off)
}

// Execute starts what was loaded. It comes back only with an error.
func Execute() error {
	unix.Sync()
	if err := kexec.Reboot(); err != nil {
		return fmt.Errorf("start what was loaded: %w", err)
	}
	return nil
}
