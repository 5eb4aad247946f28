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

// Check refuses a stage that this machine's firmware can't start, as Load does.
func (l Loader) Check(s *drtm.Stage) error {
	if l.EFI && s.Kind == drtm.Xen && !slices.Contains(strings.Fields(s.Line), "no-real-mode") {
		return fmt.Errorf("%w: give it no-real-mode on its command line, because there is no BIOS that it could call", ErrUEFI)
	}
	return nil
}

// Load loads a stage, with the log that goes on to it. Nothing runs yet.
func (l Loader) Load(s *drtm.Stage, eventlog []byte) error {
	if err := l.Check(s); err != nil {
		return err
	}
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

// loadXen lets u-root prepare Xen by Multiboot 1, adds its modules, and under UEFI what Xen
// lacks there, and gives all of it to the kernel (kexec_load(2)).
func (l Loader) loadXen(s *drtm.Stage) error {
	line := "xen " + s.Line // a file's name before it, which Xen drops
	entry, mem, err := prepare(s.Image, line)
	if err == nil {
		err = addModules(mem, line, s.Modules)
	}
	if err != nil {
		return fmt.Errorf("load Xen: %w", err)
	}
	x := prepared{entry, mem.Segments}
	if l.EFI {
		pointer, err := findRootPointer("/")
		if err == nil {
			x, err = x.withRootPointer(line, pointer)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUEFI, err)
		}
	}
	if err := x.load(); err != nil {
		return fmt.Errorf("load Xen: %w", err)
	}
	return nil
}

// prepare keeps u-root's loader from reporting to the standard logger, on a console that
// a person reads. The segments that it returns are whole pages.
func prepare(image []byte, line string) (entry uintptr, mem *kexec.Memory, err error) {
	quiet.Lock()
	defer quiet.Unlock()
	out := log.Writer()
	log.SetOutput(io.Discard)
	defer log.SetOutput(out)
	entry, segments, err := multiboot.PrepareLoad(false, bytes.NewReader(image), line, nil, nil)
	if err != nil {
		return 0, nil, err
	}
	mem = new(kexec.Memory)
	if mem.Segments, err = kexec.AlignAndMerge(segments); err != nil {
		return 0, nil, err
	}
	mem.Phys, err = kexec.MemoryMapFromSysfsMemmap()
	return entry, mem, err
}

var quiet sync.Mutex // over the standard logger's output

// Execute starts what was loaded. It comes back only with an error.
func Execute() error {
	unix.Sync()
	if err := kexec.Reboot(); err != nil {
		return fmt.Errorf("start what was loaded: %w", err)
	}
	return nil
}
