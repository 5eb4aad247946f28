package packages

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/eventlog"
)

const (
	maxRecord  = 64 << 20 // bytes of one file of records, unpacked
	maxContent = 4 << 30  // bytes of a file that is compared
	maxLinks   = 40       // that are followed for one path, as in Linux
)

// tree is the file system under a root folder. Links in it mean what they mean to the
// system whose root it is: none leads out.
type tree struct{ root *os.Root }

func openTree(dir string) (*tree, error) {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the root folder: %w", err)
	}
	return &tree{r}, nil
}

// relative is a resolved path as os.Root takes it.
func relative(p string) string {
	if p == "/" {
		return "."
	}
	return p[1:]
}

// resolve follows all links in a path, as far as it exists.
func (t *tree) resolve(p string) (string, error) {
	done, rest := "/", path.Clean("/"+p)
	for links := 0; rest != "/"; {
		part, more, _ := strings.Cut(rest[1:], "/")
		rest = "/" + more
		next := path.Join(done, part)
		target, err := t.root.Readlink(relative(next))
		switch {
		case err == nil:
			if links++; links > maxLinks {
				return "", fmt.Errorf("%s: %w", shown(p), unix.ELOOP)
			}
			if !path.IsAbs(target) {
				target = done + "/" + target
			}
			done, rest = "/", path.Clean(target+rest)
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTDIR):
			done = next // nothing there, or no link
		default:
			return "", fmt.Errorf("follow %s: %w", shown(p), err)
		}
	}
	return done, nil
}

// open opens a regular file. A pipe in its place must not make the program wait.
func (t *tree) open(p string) (*os.File, fs.FileInfo, error) {
	p, err := t.resolve(p)
	if err != nil {
		return nil, nil, err
	}
	f, err := t.root.OpenFile(relative(p), os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", shown(p))
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// openContent opens a file that is to be compared.
func (t *tree) openContent(p string) (*os.File, fs.FileInfo, error) {
	f, info, err := t.open(p)
	if err == nil && info.Size() > maxContent { // perhaps a hole of terabytes
		f.Close()
		err = errLarge
	}
	if err != nil {
		return nil, nil, fmt.Errorf("open %s: %w", shown(p), err)
	}
	return f, info, nil
}

// read reads a file of records.
func (t *tree) read(p string) ([]byte, error) {
	f, _, err := t.open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, p)
}

// readPacked reads a file of records that gzip may have packed.
func (t *tree) readPacked(p string) ([]byte, error) {
	if !strings.HasSuffix(p, ".gz") {
		return t.read(p)
	}
	f, _, err := t.open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", shown(p), err)
	}
	return readAll(z, p)
}

func readAll(r io.Reader, name string) ([]byte, error) {
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(r, maxRecord+1))
	if err == nil && n > maxRecord {
		err = fmt.Errorf("it has more than %d bytes", maxRecord)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", shown(name), err)
	}
	return b.Bytes(), nil
}

var errLarge = fmt.Errorf("it has more than %d bytes", int64(maxContent))

func readContent(to io.Writer, content io.Reader, name string) error {
	n, err := io.Copy(to, io.LimitReader(content, maxContent+1))
	if err == nil && n > maxContent {
		err = errLarge
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", shown(name), err)
	}
	return nil
}

func (t *tree) exists(p string) bool {
	p, err := t.resolve(p)
	if err != nil {
		return false
	}
	_, err = t.root.Lstat(relative(p))
	return err == nil
}

// names lists a folder; one that is not there has none.
func (t *tree) names(p string) ([]string, error) {
	p, err := t.resolve(p)
	if err != nil {
		return nil, err
	}
	d, err := t.root.Open(relative(p))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// location is the zone in which the system writes its logs.
func (t *tree) location() *time.Location {
	b, err := t.read("/etc/localtime")
	if err == nil {
		if l, err := time.LoadLocationFromTZData("local", b); err == nil {
			return l
		}
	}
	return time.UTC
}

const clockFormat = "2006-01-02 15:04:05 -0700"

func shown(s string) string { return eventlog.Printable([]byte(s)) }
