package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/antievilmaid/aem/internal/livelog"
	"github.com/antievilmaid/aem/internal/physmem"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/device"
)

// Options say how to reach the machine. The zero Options read the running one.
type Options struct {
	// Root is the folder that holds proc, sys, dev and boot; empty means the root folder.
	Root string
	// OpenTPM opens the TPM; the closer may be nil. Where OpenTPM is nil the
	// machine's own is opened. A machine without one gives [device.ErrNoTPM].
	OpenTPM func() (tpm.Channel, io.Closer, error)
	// Memory is the machine's physical memory; nil opens dev/mem.
	Memory physmem.Memory
	// XenInfo returns what "xl info" prints, and XenRing what "xl dmesg" prints;
	// nil runs these programs, where the machine runs under Xen.
	XenInfo, XenRing func() ([]byte, error)
}

// Collect reads the machine. It changes nothing: it sends the TPM questions only, and
// reads registers without a side effect. What can't be read is noted in the evidence.
func Collect(o Options) *Evidence {
	if o.Root == "" {
		o.Root = "/"
	}
	c := &collector{o, &Evidence{Missing: map[string]string{}, Firmware: &Firmware{}}}
	defer c.openMemory()()
	c.cpu()
	c.xen()
	c.firmware()
	c.tpm()
	c.registers()
	c.heap()
	c.log()
	c.modules()
	return c.Evidence
}

// collector fills evidence.
type collector struct {
	Options
	*Evidence
}

// Limits of what is read, far above what any machine has.
const (
	maxText    = 64 << 10
	maxHeap    = physmem.MaxRead
	maxLog     = livelog.MaxLog
	maxModules = 64
	maxModule  = 4 << 20
)

var errTooLong = errors.New("it is longer than any machine makes it")

// read reads a file below the root, and no more of it than a limit.
func (c *collector) read(name string, limit int) ([]byte, error) {
	f, err := os.Open(filepath.Join(c.Root, name))
	if err != nil {
		return nil, reason(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, reason(err)
	}
	if len(b) > limit {
		return nil, errTooLong
	}
	return b, nil
}

// line is the only line of a file, or empty.
func (c *collector) line(name string) string {
	b, err := c.read(name, maxText)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// reason says what an owner can do about the errors that everybody meets.
func reason(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w; run this as root", err)
	}
	return err
}

// cpu keeps one processor's part: the others are alike.
func (c *collector) cpu() {
	// A machine with many processors has a long list, of which the beginning is enough.
	f, err := os.Open(filepath.Join(c.Root, "proc/cpuinfo"))
	if err != nil {
		c.miss(fileCPUInfo, reason(err))
		return
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxText))
	if err != nil {
		c.miss(fileCPUInfo, reason(err))
		return
	}
	text, _, _ := strings.Cut(string(b), "\n\n")
	c.CPUInfo = []byte(text)
}

// xen asks the hypervisor below, whose domains see less of the CPU than there is.
func (c *collector) xen() {
	if c.line("sys/hypervisor/type") != "xen" {
		return
	}
	c.Xen = &Xen{Host: strings.Contains(c.line("proc/xen/capabilities"), "control_d")}
	if !c.Xen.Host {
		return
	}
	ask := c.XenInfo
	if ask == nil {
		ask = xlInfo
	}
	b, err := ask()
	if err != nil {
		c.miss(fileXen, err)
		return
	}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "hw_caps":
			c.Xen.Capabilities = value
		case "virt_caps":
			c.Xen.Virtual = value
		case "xen_version":
			c.Xen.Version = value
		}
	}
}

// xlInfo asks Xen's own program. A toolstack that hangs must not hang the doctor.
func xlInfo() ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "xl", "info")
	cmd.WaitDelay = time.Second
	b, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("ask Xen by xl info: %w", err)
	}
	return b, nil
}

// openMemory opens physical memory where the caller gave none. Why it can't be read
// is noted with each thing that lies in it.
func (c *collector) openMemory() (closeMemory func()) {
	if c.Memory != nil {
		return func() {}
	}
	d, err := physmem.Open(c.Root)
	if err != nil {
		c.Memory = closed{err}
		return func() {}
	}
	c.Memory = d
	return func() { d.Close() }
}

// closed is memory that could not be opened.
type closed struct{ err error }

func (c closed) ReadAt([]byte, uint64) error { return c.err }

// tpm opens the TPM, asks it, and gives it back.
func (c *collector) tpm() {
	open := c.OpenTPM
	if open == nil {
		open = func() (tpm.Channel, io.Closer, error) {
			d, err := device.Open(device.Options{Root: c.Root})
			if err != nil {
				return nil, nil, err
			}
			return d, d, nil
		}
	}
	ch, closer, err := open()
	if errors.Is(err, device.ErrNoTPM) {
		c.TPM = &TPM{Absent: true}
		return
	}
	if err != nil {
		c.miss(fileTPM, reason(err))
		return
	}
	if closer != nil {
		defer closer.Close()
	}
	c.askTPM(ch)
}
