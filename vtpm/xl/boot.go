package xl

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/vtpm/measure"
)

// Loading is what libxl asks a boot loader for, and what it goes on with.
type Loading struct {
	// Configuration is the path of the guest's configuration, which stands in its bootloader_args=.
	Configuration string `json:"configuration,omitempty"`
	// Kernel, Ramdisk and CommandLine are those of the configuration, and then of what was measured.
	Kernel      string `json:"kernel"`
	Ramdisk     string `json:"ramdisk,omitempty"`
	CommandLine string `json:"command_line"`
}

// bootPatience is how long a guest may take from its boot loader to its vTPM.
const bootPatience = 5 * time.Minute

// Boot measures a guest for the boot loader that libxl runs as the process pid, and returns paths that lead
// to what was measured. They are good until the guest has its vTPM, or the one who started pid,
// libxl, is gone: then another guest that is built with this vTPM counts as unmeasured.
func (s *Starter) Boot(pid int, want Loading) (*Loading, error) {
	builder, err := parent(pid)
	if err != nil {
		return nil, fmt.Errorf("find out who builds the guest: %w", err)
	}
	m, err := s.measure(want.Configuration, func(text string) { s.Log.Info(text, "for", want.Configuration) })
	if err != nil {
		builder.Close()
		return nil, err
	}
	got, err := m.loading(want)
	if err != nil {
		builder.Close()
		m.prepared.Cancel()
		m.close()
		return nil, err
	}
	go func() {
		defer m.close()
		defer builder.Close()
		m.await(builder)
		m.prepared.Cancel()
	}()
	return got, nil
}

// loading is what libxl is told, if the guest that it builds is the one that was measured. xl takes
// settings on its command line, too, which stand in no file.
func (m *measured) loading(want Loading) (*Loading, error) {
	c := m.configuration
	for _, d := range []struct{ what, asked, measured string }{
		{"kernel", want.Kernel, c.Kernel}, {"ramdisk", want.Ramdisk, c.Ramdisk}, {"command line", want.CommandLine, c.CommandLine},
	} {
		if d.asked != d.measured {
			return nil, fmt.Errorf("xl wants to start the guest with the %s %q, and its configuration %s says %q", d.what, d.asked, want.Configuration, d.measured)
		}
	}
	got := &Loading{Kernel: m.kernel.Path(), CommandLine: c.CommandLine}
	if m.initrd != nil {
		got.Ramdisk = m.initrd.Path()
	}
	return got, got.check()
}

// maxItem is the longest item that libxl takes from a boot loader; it drops a longer one with
// no more than a warning (libxl_bootloader.c: PATH_MAX*2, with a zero byte).
const maxItem = 8191

// check refuses what libxl would not take as it is.
func (l *Loading) check() error {
	switch {
	case strings.TrimLeft(l.CommandLine, " \t\n\v\f\r") != l.CommandLine:
		return fmt.Errorf("the command line %q begins with a space, which libxl would take away", l.CommandLine)
	case len("args "+l.CommandLine) > maxItem:
		return fmt.Errorf("the command line has %d bytes, and libxl takes %d from a boot loader", len(l.CommandLine), maxItem-len("args "))
	case strings.IndexByte(l.CommandLine, 0) >= 0:
		return &measure.ConfigurationError{Line: 1, Reason: "there is a zero byte in the command line"}
	}
	return nil
}

// Simple0 is the answer in the form that libxl asks for with --output-format=simple0: items that
// end in a zero byte (libxl_bootloader.c, parse_bootloader_result).
func (l *Loading) Simple0() []byte {
	b := []byte("kernel " + l.Kernel + "\x00")
	if l.Ramdisk != "" {
		b = append(b, "ramdisk "+l.Ramdisk+"\x00"...)
	}
	return append(b, "args "+l.CommandLine+"\x00"...)
}

// parent opens the parent of a process, so that its end can be waited for.
func parent(pid int) (*os.File, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	// The name in parentheses can hold anything, also parentheses (proc(5)).
	_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 2 {
		return nil, fmt.Errorf("process %d has no parent", pid)
	}
	ppid, err := strconv.Atoi(fields[1])
	if err != nil {
		return nil, fmt.Errorf("process %d has no parent: %w", pid, err)
	}
	fd, err := unix.PidfdOpen(ppid, 0)
	if err != nil {
		return nil, fmt.Errorf("process %d: %w", ppid, err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// await returns when a guest has what was prepared for it, or none will: its builder has ended,
// or was too slow.
func (m *measured) await(builder *os.File) {
	fds := []unix.PollFd{{Fd: int32(builder.Fd()), Events: unix.POLLIN}}
	for end := time.Now().Add(bootPatience); time.Now().Before(end); {
		select {
		case <-m.prepared.Used():
			return
		default:
		}
		if n, err := unix.Poll(fds, 500); n > 0 || err != nil && err != unix.EINTR {
			return
		}
	}
}
