// Lister is the first process of a guest whose root file system a test wants to
// see. It prints a line of JSON for each file in it and turns the machine off.
package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/unpack"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "lister is the first process of a test guest and does nothing elsewhere")
		os.Exit(2)
	}
	err := filepath.WalkDir("/", func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		f, err := describe(path)
		if err != nil {
			return err
		}
		line, err := json.Marshal(f)
		if err != nil {
			return err
		}
		fmt.Printf("FILE %s\n", line)
		return nil
	})
	fmt.Printf("END %v\n", err)
	unix.IoctlSetInt(1, unix.TCSBRK, 1) // wait until the serial line has sent everything
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("END", err)
	}
}

func describe(path string) (f unpack.File, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return f, err
	}
	f = unpack.File{Path: path[1:], Mode: st.Mode, UID: st.Uid, GID: st.Gid}
	if path == "/" {
		f.Path = "."
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		b, err := os.ReadFile(path)
		if err != nil {
			return f, err
		}
		f.Size, f.Sum = int64(len(b)), sha256.Sum256(b)
	case unix.S_IFLNK:
		if f.Target, err = os.Readlink(path); err != nil {
			return f, err
		}
		f.Size = int64(len(f.Target))
	case unix.S_IFCHR, unix.S_IFBLK:
		f.Major, f.Minor = unix.Major(st.Rdev), unix.Minor(st.Rdev)
	}
	return f, nil
}
