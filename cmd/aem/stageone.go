package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/firstprocess"
	"github.com/antievilmaid/aem/internal/stage1"
	"github.com/antievilmaid/aem/internal/stage1/config"
)

// How long stage 1 waits: for the TPM and the disks, which drivers may still be looking
// for, and for somebody who reads why nothing was started.
const (
	stageOneWait  = 30 * time.Second
	refusalLasts  = 10 * time.Minute
	switchOff     = "off"
	startOver     = "restart"
	refusalNotice = `
The system was not started, and will not be in this boot:

  %v

Type off or restart, and Enter. After 10 minutes the machine switches itself off.
`
)

// stageOne is the first process of a Linux that was launched. It starts the next stage,
// or says why not and ends the machine. It never goes on to anything else, and there is
// nothing else in its initramfs.
func stageOne() {
	prepared := firstprocess.MountSystem()
	console := io.ReadWriter(stdio{})
	if f, err := os.OpenFile("/dev/console", os.O_RDWR|unix.O_NOCTTY, 0); err == nil {
		console = f
	}
	if prepared == nil {
		prepared = firstprocess.LoadModules()
	}
	err := launchStage("/", aem.Where{Wait: stageOneWait}, thisMachine(), prepared)
	how := unix.LINUX_REBOOT_CMD_POWER_OFF
	if refuse(console, err, time.After(refusalLasts)) == startOver {
		how = unix.LINUX_REBOOT_CMD_RESTART
	}
	unix.Sync()
	for {
		fmt.Fprintf(console, "switch the machine off: %v\n", unix.Reboot(how))
		time.Sleep(time.Minute) // a first process that ends is a kernel that panics
	}
}

type stdio struct{}

func (stdio) Read(b []byte) (int, error)  { return os.Stdin.Read(b) }
func (stdio) Write(b []byte) (int, error) { return os.Stdout.Write(b) }

// launchStage starts the next stage, and comes back only with an error. What went wrong
// before it is told to launch as a stage that can't be read: so it closes the PCRs, too.
// The root is where stage 1 has its things.
func launchStage(root string, where aem.Where, start starter, prepared error) error {
	// For good: the first process has nothing to be ended for.
	stage1.Undisturbed()
	o := &launchOptions{root: root}
	c, err := readConfig(root)
	if err == nil {
		o.follow(c)
	}
	m := o.machine(where, start)
	read := m.Stage
	m.Stage = func() (*drtm.Stage, error) {
		if err := errors.Join(prepared, err); err != nil {
			return nil, err
		}
		// The policy may lie on one of the disks. It is read after the stage.
		for _, m := range c.Mounts {
			if err := aem.MountDisk(m.Disk, filepath.Join(root, m.Folder), where.Wait); err != nil {
				return nil, err
			}
		}
		return read()
	}
	return m.Launch()
}

// readConfig reads what stage 1 was told when it was built.
func readConfig(root string) (*config.Config, error) {
	b, err := os.ReadFile(filepath.Join(root, config.Path))
	if err != nil {
		return nil, fmt.Errorf("read what stage 1 is to do: %w", err)
	}
	return config.Parse(b)
}

// follow does as stage 1 was told.
func (o *launchOptions) follow(c *config.Config) {
	if o.entry = c.Entry; o.entry == "" {
		o.describe = filepath.Join(o.root, config.DescriptionPath)
	}
	if p := c.Policy; p != nil {
		o.policy = policyOptions{
			file: filepath.Join(o.root, p.File), key: filepath.Join(o.root, config.PolicyKeyPath),
			oldest: p.Oldest, anyway: p.LaunchUnapproved,
		}
	}
}

// refuse says why nothing was started, and waits for a choice. Whatever else is typed is
// no choice; where nobody types, time ends it.
func refuse(console io.ReadWriter, cause error, late <-chan time.Time) string {
	fmt.Fprintf(console, refusalNotice, strings.ReplaceAll(cause.Error(), "\n", "\n  "))
	lines := make(chan string)
	go func() {
		in := bufio.NewReader(console)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return // nobody is there to type
			}
			lines <- strings.TrimSpace(line)
		}
	}()
	for {
		select {
		case line := <-lines:
			if line == switchOff || line == startOver {
				return line
			}
			fmt.Fprintln(console, "off or restart:")
		case <-late:
			return switchOff
		}
	}
}
