package bootentry

import (
	"errors"
	"io/fs"
	"path"
	"strings"
)

// source is the commands source and ".": another configuration, in the same
// context and with its entries in the same menu.
func (c *call) source() (string, error) {
	if err := c.oneFile(); err != nil {
		return "", err
	}
	return success, c.runFile(c.s)
}

// configfile shows the menu of another configuration in place of this one. Only
// exported variables are there.
func (c *call) configfile() (string, error) {
	if err := c.oneFile(); err != nil {
		return "", err
	}
	if c.s.inEntry {
		return "", c.refuse("an entry that shows another menu is not modelled")
	}
	if err := c.e.spend(c.at, c.s.cost()); err != nil {
		return "", err
	}
	inner := c.s.inner()
	if err := c.runFile(inner); err != nil {
		return "", err
	}
	if len(inner.menu) == 0 {
		c.s.funcs, c.s.saved = inner.funcs, inner.saved
		return success, nil
	}
	calls, loops := c.s.calls, c.s.loops
	*c.s = *inner
	c.s.calls, c.s.loops, c.s.over = calls, loops, true
	return success, nil
}

// normal reads a configuration in the same context and then shows the menu. Only
// with a file's name is it known which one.
func (c *call) normal() (string, error) {
	if err := c.oneFile(); err != nil {
		return "", err
	}
	if c.s.inEntry {
		return "", c.refuse("an entry that shows another menu is not modelled")
	}
	if err := c.runFile(c.s); err != nil {
		return "", err
	}
	c.s.over = true
	return success, nil
}

func (c *call) oneFile() error {
	if len(c.args) != 1 || c.loose >= 0 {
		return c.refuse("it does not name one file")
	}
	return nil
}

// runFile runs the configuration that the first word names.
func (c *call) runFile(s *state) error {
	f, b, err := c.open(c.args[0], maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // GRUB says so and goes on
	}
	if err != nil {
		return err
	}
	return c.e.config(s, c.at, f, c.args[0], string(b))
}

// config runs a whole configuration file (normal/main.c, read_config_file).
func (e *evaluator) config(s *state, at place, f file, as, text string) error {
	if e.sources++; e.sources > maxSources {
		return at.tooLarge("more than %d configuration files are read", maxSources)
	}
	start := place{f.path, 1}
	if strings.IndexByte(text, 0) >= 0 {
		return start.refuse("", "the file holds a zero byte")
	}
	if err := e.enter(start); err != nil {
		return err
	}
	defer e.leave()
	nodes, err := parse(newLexer(f.path, text))
	if err != nil {
		return err
	}
	if !strings.HasPrefix(as, "(") {
		as = "(" + s.get("root") + ")" + as
	}
	oldFile, hadFile := s.vars["config_file"]
	oldDir, hadDir := s.vars["config_directory"]
	for name, value := range map[string]string{"config_file": as, "config_directory": path.Dir(as)} {
		if err := s.set(start, name, value); err != nil {
			return err
		}
		if err := s.export(start, name); err != nil {
			return err
		}
	}
	for _, n := range nodes {
		if s.over {
			return nil
		}
		if _, err := e.list(s, []node{n}); err != nil {
			return err
		}
		s.returning = false
	}
	s.restore("config_file", oldFile, hadFile)
	s.restore("config_directory", oldDir, hadDir)
	return nil
}

func (s *state) restore(name string, v variable, had bool) {
	s.unset(name)
	if had {
		s.bytes += len(v.value) + len(name) + 64
		s.vars[name] = v
	}
}
