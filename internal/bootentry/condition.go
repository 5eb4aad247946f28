package bootentry

import (
	"errors"
	"io/fs"
)

// test is the command [ and test (commands/test.c). Its grammar is not a shell's:
// tests with three words are tried before those with two, -a does nothing, and -o
// does not end what stands in brackets around it.
func (c *call) test() (string, error) {
	args := c.args
	for _, a := range args {
		if isUnknown(a) {
			return c.e.unknown(c.e.why(a)), nil
		}
	}
	if c.loose >= 0 {
		return c.e.unknown("a word of a test is not known"), nil
	}
	if n := len(args); n > 0 && args[n-1] == "]" {
		args = args[:n-1]
	}
	t := &tester{c: c, args: args}
	result := t.parse(0)
	switch {
	case t.err != nil:
		return "", t.err
	case t.doubt != "":
		return c.e.unknown(t.doubt), nil
	case result:
		return success, nil
	}
	return untrue, nil
}

type tester struct {
	c     *call
	args  []string
	doubt string // why the result is not known
	err   error
}

// maxBrackets is commands/test.c's MAX_TEST_RECURSION_DEPTH.
const maxBrackets = 100

func (t *tester) parse(depth int) bool {
	invert, or, and := false, false, true
	update := func(v bool) {
		and = and && v != invert
		invert = false
	}
	for len(t.args) > 0 && t.err == nil {
		a := t.args
		if len(a) > 2 {
			if v, ok := t.three(a[0], a[1], a[2]); ok {
				if marked(a[0] + a[2]) { // the name of a disk, which is not empty but else not known
					t.doubt = t.c.e.why(a[0] + a[2])
				}
				update(v)
				t.args = a[3:]
				continue
			}
		}
		if len(a) > 1 {
			if v, ok := t.two(a[0], a[1]); ok {
				update(v)
				t.args = a[2:]
				continue
			}
		}
		t.args = a[1:]
		switch a[0] {
		case ")":
			return or || and
		case "(":
			if depth >= maxBrackets {
				t.err = t.c.refuse("brackets are nested more than %d deep", maxBrackets)
				return false
			}
			update(t.parse(depth + 1))
		case "!":
			invert = !invert
		case "-a":
		case "-o":
			or, and = or || and, true
		default:
			update(a[0] != "")
		}
	}
	return or || and
}

func (t *tester) three(x, op, y string) (v, ok bool) {
	switch op {
	case "=", "==":
		return x == y, true
	case "!=":
		return x != y, true
	case "<":
		return x < y, true
	case "<=":
		return x <= y, true
	case ">":
		return x > y, true
	case ">=":
		return x >= y, true
	case "-eq":
		return t.integer(x) == t.integer(y), true
	case "-ge":
		return t.integer(x) >= t.integer(y), true
	case "-gt":
		return t.integer(x) > t.integer(y), true
	case "-le":
		return t.integer(x) <= t.integer(y), true
	case "-lt":
		return t.integer(x) < t.integer(y), true
	case "-ne":
		return t.integer(x) != t.integer(y), true
	}
	if op == "-pgt" || op == "-plt" || len(op) >= 3 && (op[:3] == "-nt" || op[:3] == "-ot") {
		t.doubt = "the test " + op[:3] + " is not modelled"
		return false, true
	}
	return false, false
}

// integer reads a number as grub_strtosl does. What GRUB makes of one that does
// not fit an int is left open.
func (t *tester) integer(s string) int64 {
	sign := int64(1)
	if s != "" && s[0] == '-' {
		sign, s = -1, s[1:]
	}
	n, _, ok := number(s, 0)
	if !ok && n == 0 { // no digits: GRUB takes 0
		return 0
	}
	if n > 1<<31-1 {
		t.doubt = "a number is too large"
		return 0
	}
	return sign * int64(n)
}

func (t *tester) two(op, x string) (v, ok bool) {
	switch op {
	case "-n":
		return x != "", true
	case "-z":
		return x == "", true
	case "-d", "-e", "-f", "-s":
	default:
		return false, false
	}
	// GRUB looks a name up in its folder, where a symbolic link is neither a folder
	// nor followed; only -s opens the file.
	info, err := t.c.stat(x, op == "-s")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, true
	case err != nil:
		t.doubt = err.Error()
		return false, true
	}
	switch op {
	case "-d":
		return info.IsDir(), true
	case "-f":
		return !info.IsDir(), true
	case "-s":
		return !info.IsDir() && info.Size() > 0, true
	}
	return true, true
}

// stat finds out about a file on GRUB's disks.
func (c *call) stat(p string, follow bool) (fs.FileInfo, error) {
	f, err := c.e.resolve(c.s, p)
	if err != nil {
		return nil, err
	}
	files := c.e.fs[f.device.fs].files
	if follow {
		return fs.Stat(files, f.name)
	}
	return fs.Lstat(files, f.name)
}
