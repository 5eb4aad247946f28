// Timedstage is stage 1 with a clock: the first process of a guest that was launched.
// It does what aem does under that name, by the same packages, and times what lies
// between the means that it gives to package launch. It prints how long each part took
// and how much memory the process had needed by then, and starts the next stage.
package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/firstprocess"
	"github.com/antievilmaid/aem/internal/stage1"
	"github.com/antievilmaid/aem/internal/stage1/config"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "timedstage is the first process of a guest and does nothing elsewhere")
		os.Exit(2)
	}
	fmt.Println("\nSTAGE begins")
	err := run()
	fmt.Printf("\nSTAGE failed: %v\n", err)
	time.Sleep(time.Hour) // until the guest is killed
}

// wait is how long the TPM and the disk may take to appear.
const wait = 30 * time.Second

func run() error {
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return err
	}
	c := &clock{last: time.Now()}
	c.parts = []part{{"the small Linux, up to its first process", time.Duration(boot.Nano()), 0}}
	if err := firstprocess.MountSystem(); err != nil {
		return err
	}
	before := kilobytes("/proc/meminfo", "MemAvailable:")
	if err := firstprocess.LoadModules(); err != nil {
		return err
	}
	c.ends("loading its modules")
	m := launch.Machine{
		Open: func() (*launch.TPM, error) {
			defer c.ends("taking the TPM from its driver, at locality 2")
			return stage1.OpenTPM("", wait)
		},
		Log: func() (*eventlog.Log, error) {
			c.ends("reading the PCRs")
			defer c.ends("finding the log")
			l, err := aem.FindLog()
			if err != nil {
				return nil, err
			}
			return l.Log, l.Broken
		},
		Stage: func() (*drtm.Stage, error) {
			c.ends("replaying the log")
			if err := aem.MountDisk("/dev/vda", "/target", wait); err != nil {
				return nil, err
			}
			c.ends("mounting the disk")
			defer c.ends("reading the files")
			return stage1.ReadDescribed(config.DescriptionPath, "/")
		},
		Load: func(s *drtm.Stage, log []byte) error {
			c.ends("hashing them in every bank")
			defer c.ends("handing them to the kernel")
			return stage1.ThisMachine().Load(s, log)
		},
		Execute: func() error {
			c.ends("extending and confirming")
			c.print(before - kilobytes("/proc/meminfo", "MemAvailable:"))
			return stage1.Execute()
		},
	}
	return m.Launch()
}

// part is one of the things that are done.
type part struct {
	name string
	took time.Duration
	peak int // of the process, in kB, when it ended
}

// clock notes what took how long since the part before.
type clock struct {
	last  time.Time
	parts []part
}

func (c *clock) ends(name string) {
	now := time.Now()
	took := now.Sub(c.last)
	c.parts = append(c.parts, part{name, took, kilobytes("/proc/self/status", "VmHWM:")})
	c.last = time.Now()
}

// print says it in lines that begin and end with a word of their own. gone is what all
// of it took of the machine's memory, in kB, with the kernel's copies.
func (c *clock) print(gone int) {
	fmt.Println("\nSTAGE parts")
	for _, p := range c.parts {
		fmt.Printf("%q %d %d\n", p.name, p.took.Microseconds(), p.peak)
	}
	fmt.Printf("STAGE executes %d\n", gone)
	unix.IoctlSetInt(1, unix.TCSBRK, 1) // what is in the serial port must leave it before
}

// kilobytes is what a file of the kernel's says behind a name; 0 where it does not.
func kilobytes(path, name string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			fmt.Sscan(rest, &n)
		}
	}
	return n
}
