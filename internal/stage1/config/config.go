// Package config is what stage 1 is told when it is built. It stands apart from the
// builder, whose archives and readers of programs stage 1 itself does not need.
package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Where stage 1 has its things.
const (
	Init            = "/init" // the program aem, which is the first process by this name
	Path            = "/etc/aem/stage1.json"
	DescriptionPath = "/etc/aem/launch.json"
	PolicyKeyPath   = "/etc/aem/policy.pub" // the public key of the policy, where one has to approve
)

// BootFolder is where GRUB's menu is looked for.
const BootFolder = "/boot"

// ErrConfig says that stage 1 could not do what it is told.
var ErrConfig = errors.New("stage 1 can't be told that")

// Config tells stage 1 what to mount, and what to start where there is no description.
type Config struct {
	Mounts []Mount `json:"mounts,omitempty"`
	// Entry is an entry of GRUB's menu in BootFolder; empty where there is a description.
	Entry string `json:"entry,omitempty"`
	// Policy has to approve of what is started; nil where none has to.
	Policy *Policy `json:"policy,omitempty"`
}

// Policy is what stage 1 demands of a signed policy. The file is anybody's to exchange;
// what is demanded of it stands here, with the key in the same initramfs, because the
// launch measures both.
type Policy struct {
	File   string `json:"file"`   // on one of the disks
	Oldest uint64 `json:"oldest"` // the lowest version that is taken
	// LaunchUnapproved starts also what it does not approve of, measured as such.
	LaunchUnapproved bool `json:"launch_unapproved,omitempty"`
}

// Mount is a file system that is mounted read-only.
type Mount struct {
	Disk   string `json:"disk"` // a device, or UUID= and the file system's UUID
	Folder string `json:"folder"`
}

// ParseMount reads "DISK:FOLDER". Paths of disks may hold colons, so the last one counts.
func ParseMount(s string) (Mount, error) {
	at := strings.LastIndexByte(s, ':')
	if at < 0 {
		return Mount{}, fmt.Errorf("%w: %q is no disk and folder, such as UUID=0a1b2c3d:/boot", ErrConfig, s)
	}
	m := Mount{Disk: s[:at], Folder: s[at+1:]}
	return m, m.check()
}

// reserved are the folders of stage 1's own.
var reserved = []string{"aem", "dev", "etc", "init", "lib", "proc", "run", "sys"}

func (m Mount) check() error {
	first, _, _ := strings.Cut(strings.TrimPrefix(m.Folder, "/"), "/")
	switch {
	case !strings.HasPrefix(m.Disk, "/dev/") && !(strings.HasPrefix(m.Disk, "UUID=") && len(m.Disk) > len("UUID=")):
		return fmt.Errorf("%w: %q is no disk; name a device in /dev, or UUID= and the UUID of its file system", ErrConfig, m.Disk)
	case !strings.HasPrefix(m.Folder, "/") || path.Clean(m.Folder) != m.Folder || m.Folder == "/":
		return fmt.Errorf("%w: %q is no folder to mount something on", ErrConfig, m.Folder)
	case slices.Contains(reserved, first):
		return fmt.Errorf("%w: stage 1 has things of its own in /%s", ErrConfig, first)
	}
	return nil
}

// Check says what of it could not be done; the error wraps [ErrConfig].
func (c *Config) Check() error {
	var seen []string
	for _, m := range c.Mounts {
		if err := m.check(); err != nil {
			return err
		}
		if slices.Contains(seen, m.Folder) {
			return fmt.Errorf("%w: two disks are to be mounted on %s", ErrConfig, m.Folder)
		}
		seen = append(seen, m.Folder)
	}
	if c.Entry != "" && !slices.Contains(seen, BootFolder) {
		return fmt.Errorf("%w: a menu entry is looked for in GRUB's menu, so the file system with it must be mounted on %s", ErrConfig, BootFolder)
	}
	if p := c.Policy; p != nil && (!strings.HasPrefix(p.File, "/") || path.Clean(p.File) != p.File) {
		return fmt.Errorf("%w: %q is no path of a policy's file, such as /boot/launch.policy", ErrConfig, p.File)
	}
	return nil
}

// Mounted reports whether a path lies on one of the disks.
func (c *Config) Mounted(path string) bool {
	return slices.ContainsFunc(c.Mounts, func(m Mount) bool { return strings.HasPrefix(path, m.Folder+"/") })
}

// Parse reads what the builder of the initramfs wrote.
func Parse(b []byte) (*Config, error) {
	in := json.NewDecoder(bytes.NewReader(b))
	in.DisallowUnknownFields()
	var c Config
	if err := in.Decode(&c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return &c, c.Check()
}
