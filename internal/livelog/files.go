package livelog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/antievilmaid/aem/internal/handover"
)

// securityFS is where kernels show logs.
const securityFS = "/sys/kernel/security"

// stage1 asks for the log that "aem launch" put into this system's initramfs, there or
// where it was kept when the root was switched. Most machines start without that stage, so that
// its absence is not worth a word.
func (s *search) stage1() {
	for _, path := range []string{"/aem/eventlog", "/run/aem/eventlog"} {
		name := fmt.Sprintf("%s, %s", Stage1, path)
		b, err := readFile(s.path(path))
		switch {
		case err == nil:
			// It begins with what the simulator logged, where that made the launch.
			h, err := handover.FindUnder(s.machine.Root)
			s.add(Found{Source: Stage1, Name: name, Bytes: b, Simulated: err == nil && h.Platform != 0})
			return
		case !errors.Is(err, fs.ErrNotExist):
			s.skip(Stage1, name, err)
		}
	}
}

// linux asks a kernel that was launched itself (the secure launch patches for Linux).
func (s *search) linux() {
	s.file(Linux, "Linux", securityFS+"/slaunch/eventlog", false)
}

// openXT asks the module by which OpenXT's kernel shows the log that Xen got from
// tboot: the one with all banks first, SHA-1 last.
func (s *search) openXT() {
	for _, name := range []string{"tpm20_binary_evtlog_tcg", "tpm20_binary_evtlog_legacy", "tpm12_binary_evtlog"} {
		s.file(OpenXT, "OpenXT's TXT module", securityFS+"/txt/"+name, false)
	}
}

// firmware asks for the log of the static boot.
func (s *search) firmware() {
	s.file(Firmware, "firmware", securityFS+"/tpm0/binary_bios_measurements", true)
}

// file takes a log that a kernel shows. Such files claim a size of zero, so they are
// read up to their end.
func (s *search) file(source Source, name, path string, static bool) {
	name = fmt.Sprintf("%s, %s", name, path)
	b, err := readFile(s.path(path))
	switch {
	case err == nil:
		s.add(Found{Source: source, Name: name, Static: static, Bytes: b})
	case errors.Is(err, fs.ErrNotExist):
		s.absent(source, name, s.whyNoFile())
	default:
		s.skip(source, name, err)
	}
}

// whyNoFile tells the two apart: a kernel that has no such log, and one that is not
// asked for it, as in an initramfs that does not mount the file system.
func (s *search) whyNoFile() string {
	if entries, err := os.ReadDir(s.path(securityFS)); err != nil || len(entries) == 0 {
		return "securityfs is not mounted on " + securityFS
	}
	return "this kernel shows no such log"
}

func (s *search) path(path string) string { return filepath.Join(s.machine.Root, path) }

// readFile reads at most MaxLog bytes.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxLog+1))
	if err != nil {
		return nil, err
	}
	if len(b) > MaxLog {
		return nil, fmt.Errorf("it has more than %d bytes, more than any launch leaves", MaxLog)
	}
	return b, nil
}

// simulator asks for an emulated launch.
func (s *search) simulator() {
	name := string(Simulator)
	h, err := handover.FindUnder(s.machine.Root)
	switch {
	case errors.Is(err, handover.ErrNone):
		s.absent(Simulator, name, err.Error())
	case err != nil:
		s.skip(Simulator, name, err)
	case h.Platform == 0:
		s.absent(Simulator, name, "drtmsim made no launch since the last reset")
	default:
		s.add(Found{Source: Simulator, Name: name, Simulated: true, Bytes: h.Log})
	}
}
