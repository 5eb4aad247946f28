package packages

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"time"
)

// What rpm is asked to print: a line for each package, and one for each of its files.
// Names stand last, since they may have any characters.
const (
	rpmPackageFormat = `P\t%{NAME}\t%{EVR}\t%{ARCH}\t%{INSTALLTIME}\t%{INSTALLTID}\n`
	rpmFileFormat    = `[F\t%{FILEDIGESTS}\t%{FILENAMES}\n]`
)

// rpmRunner runs rpm and returns what it prints, also when it then ends with an error.
type rpmRunner func(args ...string) ([]byte, error)

// runRPM asks the rpm program about the system in a folder.
func runRPM(root string) rpmRunner {
	return func(args ...string) ([]byte, error) {
		if root != "/" {
			args = append([]string{"--root", root}, args...)
		}
		cmd := exec.Command("rpm", args...)
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		b, err := readAll(out, "rpm's answer")
		if err != nil {
			cmd.Process.Kill()
			return nil, errors.Join(err, cmd.Wait())
		}
		if err := cmd.Wait(); err != nil {
			return b, fmt.Errorf("rpm: %w: %s", err, shown(strings.TrimSpace(said.String())))
		}
		return b, nil
	}
}

type rpmPackage struct {
	name, evr, arch string
	when            time.Time
	transaction     string
	files           []rpmFile
}

// rpmFile has no digest where it is made on the machine, or is no regular file.
type rpmFile struct{ digest, path string }

// rpmOwner is a package that has a file.
type rpmOwner struct {
	rpmPackage
	file rpmFile
}

// owners asks rpm for the packages that have a file.
func (r *rpm) owners(file string) ([]rpmOwner, error) {
	out, err := r.run("-qf", "--qf", rpmPackageFormat+rpmFileFormat, file)
	list := parseRPM(string(out))
	if err != nil && len(list) == 0 {
		if bytes.Contains(out, []byte("is not owned by any package")) || !r.tree.exists(file) {
			return nil, nil
		}
		return nil, fmt.Errorf("ask rpm for the package of %s: %w", shown(file), err)
	}
	var owners []rpmOwner
	for _, p := range list {
		for _, f := range p.files {
			// It may have recorded /lib/modules where /lib is a link.
			if path.Base(f.path) != path.Base(file) {
				continue
			}
			if name, err := r.tree.resolve(f.path); err == nil && name == file {
				owners = append(owners, rpmOwner{p, f})
				break
			}
		}
	}
	return owners, nil
}

// parseRPM reads what the formats above print.
func parseRPM(s string) []rpmPackage {
	var list []rpmPackage
	for line := range strings.Lines(s) {
		w := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		switch {
		case w[0] == "P" && len(w) == 6:
			seconds, err := strconv.ParseInt(w[4], 10, 64)
			if err != nil || seconds < 0 || seconds > 1<<40 {
				continue
			}
			list = append(list, rpmPackage{name: w[1], evr: w[2], arch: w[3], when: time.Unix(seconds, 0).UTC(), transaction: w[5]})
		case w[0] == "F" && len(w) == 3 && len(list) > 0:
			p := &list[len(list)-1]
			p.files = append(p.files, rpmFile{w[1], w[2]})
		}
	}
	return list
}
