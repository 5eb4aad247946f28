package stage1

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/livelog"
)

// LogPath is where the next stage finds the log, in its initramfs.
const (
	logFolder = "aem"
	LogPath   = logFolder + "/eventlog"
)

// roomForLog is what is left behind a file in memory, so that the usual log is
// appended without a copy of the file. It also holds the archive around it.
const roomForLog = 256 << 10

// WithLog appends the log to an initramfs that was measured, as a cpio archive with
// one folder and one file.
//
// The log can't be measured, since it says what was measured; so what is appended must
// be able to do nothing but to carry it. This program makes the archive and chooses its two
// names; the log's bytes lie inside a file whose length the archive's header gives, so
// none of them can become another entry. It comes last, because the kernel unpacks
// archives in turn and a later entry replaces an earlier one: whatever the initramfs
// holds under this name, a file, a link to a file or a link in place of the folder, is
// gone. (The one thing that is not: a second name of the same file, a hard link, would
// see the log's bytes, too. That is for the initramfs to want, and it is measured.)
// And it must not come first, where early microcode has to be.
func WithLog(initrd, log []byte) ([]byte, error) {
	if len(log) > livelog.MaxLog {
		return nil, fmt.Errorf("write the log for the next stage: it has %d bytes, more than any log", len(log))
	}
	// The kernel looks for the next archive at a multiple of four bytes.
	b := align(initrd)
	b = entry(b, 1, logFolder, unix.S_IFDIR|0o700, nil)
	b = entry(b, 2, LogPath, unix.S_IFREG|0o600, log)
	return entry(b, 0, "TRAILER!!!", 0, nil), nil
}

// entry appends one file to an archive in the "newc" format (the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst). The archive begins at a
// multiple of four in b.
func entry(b []byte, inode int, name string, mode uint32, content []byte) []byte {
	links, size := min(inode, 1), len(content)
	b = fmt.Appendf(b, "070701%08X%08X", inode, mode)
	for _, field := range []int{0, 0, links, 0, size, 0, 0, 0, 0, len(name) + 1, 0} { // owners, time, devices and checksum are zero
		b = fmt.Appendf(b, "%08X", field)
	}
	b = align(append(append(b, name...), 0))
	return align(append(b, content...))
}

func align(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// handOver is the stage as it is loaded: the log goes with the initramfs, which under
// Xen is the second module.
func handOver(s *drtm.Stage, log []byte) (*drtm.Stage, error) {
	loaded := *s
	var err error
	switch {
	case s.Kind == drtm.Linux:
		loaded.Initrd, err = WithLog(s.Initrd, log)
	case len(s.Modules) == 0:
		return nil, fmt.Errorf("%w: Xen has no kernel to start", drtm.ErrTarget)
	default:
		loaded.Modules = append([]drtm.Module(nil), s.Modules...)
		if len(loaded.Modules) == 1 {
			loaded.Modules = append(loaded.Modules, drtm.Module{})
		}
		loaded.Modules[1].Content, err = WithLog(loaded.Modules[1].Content, log)
	}
	return &loaded, err
}
