package stage1

import (
	"fmt"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/initramfs"
)

// LogPath is where the next stage finds the log, in its initramfs.
const LogPath = "aem/eventlog"

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
	var a initramfs.Archive
	a.Dir("aem", 0o700)
	a.File(LogPath, 0o600, log)
	archive, err := a.Bytes()
	if err != nil {
		return nil, fmt.Errorf("write the log for the next stage: %w", err)
	}
	// The kernel looks for the next archive at a multiple of four bytes.
	for len(initrd)%4 != 0 {
		initrd = append(initrd, 0)
	}
	return append(initrd, archive...), nil
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
