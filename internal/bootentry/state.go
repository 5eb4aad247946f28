package bootentry

import (
	"maps"
	"slices"
)

// Limits on what a configuration may cost. Real ones stay far below.
const (
	maxSteps    = 400_000 // commands, words and copied variables of one Read
	maxValue    = 1 << 16 // bytes of one value, or of all words of one command
	maxVars     = 1 << 20 // bytes of all variables at one moment
	maxEntries  = 1000    // menu entries, those of submenus included
	maxOutput   = 8 << 20 // bytes of all titles and command lines
	maxConfig   = 1 << 20 // bytes of one configuration file
	maxSources  = 64      // configuration files
	maxSubmenus = 8       // submenus within submenus
	maxDepth    = 64      // nested execution: script/execute.c, MAX_RECURSION_DEPTH
)

type variable struct {
	value    string
	exported bool // survives into a submenu and into a configfile
}

// scope is what $1, $2, ... stand for.
type scope struct {
	args  []string
	loose int // as in arguments
}

// state is all that a command can change. It is copied where a condition can't be
// told and both ways have to be gone.
type state struct {
	vars   map[string]variable
	bytes  int // of vars
	funcs  map[string]*functionNode
	scope  *scope // never changed in place
	menu   []choice
	boot   loaded
	saved  map[string]bool // environment blocks that save_env changed
	status string          // $?

	inEntry   bool
	calls     int // functions that run
	loops     int
	breaks    int  // loops that break or continue still has to leave
	cont      bool // continue, not break
	returning bool
	over      bool // boot, reboot or a menu shown in between: nothing runs after it
}

func newState() *state {
	return &state{
		vars: map[string]variable{}, funcs: map[string]*functionNode{}, saved: map[string]bool{}, status: success,
	}
}

func (s *state) clone() *state {
	c := *s
	c.vars, c.funcs, c.saved = maps.Clone(s.vars), maps.Clone(s.funcs), maps.Clone(s.saved)
	c.menu = slices.Clone(s.menu)
	c.boot = s.boot.clone()
	return &c
}

// cost is what a copy counts in steps.
func (s *state) cost() int { return 8 + len(s.vars) + len(s.funcs) + len(s.menu) }

func (s *state) get(name string) string {
	if name == "?" {
		return s.status
	}
	return s.vars[name].value
}

func (s *state) set(at place, name, value string) error {
	// kern/main.c, grub_env_write_root: the parentheses of a device are taken off.
	if n := len(value); name == "root" && n > 1 && value[0] == '(' && value[n-1] == ')' {
		value = value[1 : n-1]
	}
	old, ok := s.vars[name]
	s.bytes += len(value) - len(old.value)
	if !ok {
		s.bytes += len(name) + 64
	}
	if len(value) > maxValue || s.bytes > maxVars {
		return at.tooLarge("the variables take more than %d bytes", maxVars)
	}
	s.vars[name] = variable{value, old.exported}
	return nil
}

func (s *state) unset(name string) {
	if v, ok := s.vars[name]; ok {
		s.bytes -= len(v.value) + len(name) + 64
		delete(s.vars, name)
	}
}

func (s *state) export(at place, name string) error {
	if _, ok := s.vars[name]; !ok {
		if err := s.set(at, name, ""); err != nil {
			return err
		}
	}
	v := s.vars[name]
	v.exported = true
	s.vars[name] = v
	return nil
}

// inner gives the context of a submenu or of a configfile: only exported
// variables are there (normal/context.c).
func (s *state) inner() *state {
	c := s.clone()
	for name, v := range s.vars {
		if !v.exported {
			c.unset(name)
		}
	}
	c.menu = nil
	return c
}
