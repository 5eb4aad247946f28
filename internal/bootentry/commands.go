package bootentry

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

// call is one command that runs.
type call struct {
	e     *evaluator
	s     *state
	at    place
	name  string
	args  []string
	loose int    // index into args, as in arguments
	wild  string // as in arguments
	block []node
}

func (c *call) refuse(format string, args ...any) error { return c.at.refuse(c.name, format, args...) }

// known refuses the call unless all its words are known.
func (c *call) known() error {
	for i, a := range c.args {
		if marked(a) {
			return c.refuse("its word %d is not known: %s", i+1, c.e.why(a))
		}
	}
	return nil
}

// command runs one command line (grub_script_execute_cmdline).
func (e *evaluator) command(s *state, n *commandNode) (string, error) {
	args, err := e.expand(s, n.at, n.words)
	if err != nil {
		return "", err
	}
	if len(args.list) == 0 {
		return success, nil
	}
	c := &call{e: e, s: s, at: n.at, name: args.list[0], args: args.list[1:], loose: args.loose, wild: args.wild, block: n.block}
	invert := c.name == "!"
	if invert {
		if len(c.args) == 0 {
			return failure, nil
		}
		c.name, c.args = c.args[0], c.args[1:]
		c.loose--
	}
	// Of name=value the value may be unknown, of a command no part.
	if before, _, found := strings.Cut(c.name, "\x00"); found && !strings.Contains(before, "=") {
		return "", n.at.refuse("", "the command itself is not known: %s", e.why(c.name))
	}
	if c.loose > 0 {
		c.loose--
	} else if args.loose >= 0 {
		c.loose = 0
	}
	status, err := c.run()
	if err != nil {
		return "", err
	}
	if invert {
		switch {
		case status == success:
			status = untrue
		case !isUnknown(status):
			status = success
		}
	}
	return status, nil
}

// callFunction runs a function of the script (grub_script_function_call).
func (c *call) callFunction(f *functionNode) (string, error) {
	s := c.s
	loops, outer := s.loops, s.scope
	s.loops, s.scope = 0, &scope{c.args, c.loose}
	s.calls++
	status, err := c.e.list(s, f.body)
	s.calls--
	s.returning, s.loops, s.scope = false, loops, outer
	return status, err
}

// run looks a name up as GRUB does: commands, then functions, then assignments.
func (c *call) run() (string, error) {
	if harmless[c.name] {
		return success, nil
	}
	if harmlessIfItWorks[c.name] {
		return c.e.unknown(fmt.Sprintf("whether %q succeeds depends on the machine", c.name)), nil
	}
	if c.wild != "" {
		return "", c.refuse("%.40q stands for the names of files, if any match", c.wild)
	}
	if run := c.builtin(); run != nil {
		return run()
	}
	if f := c.s.funcs[c.name]; f != nil && !refused[c.name] {
		return c.callFunction(f)
	}
	if name, value, ok := strings.Cut(c.name, "="); ok && !refused[c.name] {
		if name == "" || special(name) {
			return success, nil // GRUB prints an error and goes on
		}
		return success, c.s.set(c.at, name, value)
	}
	// Red Hat's blscfg makes entries that call these whether or not they are there.
	if c.name == "load_video" || c.name == "savedefault" {
		return success, nil
	}
	return "", c.refuse("this command is not known here")
}

func (c *call) setCommand() (string, error) {
	if len(c.args) == 0 {
		return success, nil
	}
	name, value, ok := strings.Cut(c.args[0], "=")
	if marked(name) {
		return "", c.refuse("the variable's name is not known: %s", c.e.why(name))
	}
	if !ok {
		return failure, nil
	}
	return success, c.s.set(c.at, name, value)
}

func (c *call) unsetCommand() (string, error) {
	if len(c.args) == 0 {
		return failure, nil
	}
	if marked(c.args[0]) {
		return "", c.refuse("the variable's name is not known: %s", c.e.why(c.args[0]))
	}
	c.s.unset(c.args[0])
	return success, nil
}

func (c *call) exportCommand() (string, error) {
	if len(c.args) == 0 {
		return failure, nil
	}
	if err := c.known(); err != nil {
		return "", err
	}
	for _, name := range c.args {
		if err := c.s.export(c.at, name); err != nil {
			return "", err
		}
	}
	return success, nil
}

// increment is Red Hat's command for counting boots (commands/increment.c).
func (c *call) increment() (string, error) {
	if err := c.known(); err != nil {
		return "", err
	}
	if len(c.args) != 1 {
		return failure, nil
	}
	old, ok := c.s.vars[c.args[0]]
	if !ok {
		return failure, nil
	}
	if marked(old.value) {
		return success, nil // unknown before, unknown after
	}
	n, err := strconv.ParseInt(old.value, 10, 32)
	if err != nil {
		return "", c.refuse("%.40q is no number", old.value)
	}
	if c.name == "increment" {
		n++
	} else {
		n--
	}
	return success, c.s.set(c.at, c.args[0], strconv.FormatInt(n, 10))
}

// count reads the one number that break, shift and return may have.
func (c *call) count() (int, error) {
	if len(c.args) == 0 {
		return 1, nil
	}
	if err := c.known(); err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(c.args[0])
	if len(c.args) > 1 || err != nil || n < 0 || n > 1000 {
		return 0, c.refuse("its words are not one small number")
	}
	return n, nil
}

func (c *call) breakCommand() (string, error) {
	n, err := c.count()
	if err != nil {
		return "", err
	}
	if n == 0 {
		return failure, nil
	}
	c.s.cont = c.name == "continue"
	c.s.breaks = min(n, c.s.loops)
	return success, nil
}

func (c *call) shift() (string, error) {
	n, err := c.count()
	if err != nil {
		return "", err
	}
	sc := c.s.scope
	if sc == nil {
		return success, nil
	}
	if n > len(sc.args) || sc.loose >= 0 && n > sc.loose {
		if sc.loose >= 0 {
			return "", c.refuse("how many words there are is not known")
		}
		return failure, nil
	}
	shifted := &scope{args: sc.args[n:], loose: sc.loose}
	if sc.loose >= 0 {
		shifted.loose -= n
	}
	c.s.scope = shifted
	return success, nil
}

func (c *call) setparams() (string, error) {
	if c.s.scope == nil {
		return failure, nil
	}
	c.s.scope = &scope{c.args, c.loose}
	return success, nil
}

// returnCommand leaves a function. Elsewhere GRUB takes it too, and then runs the
// first command of each line that follows, which nobody can have meant.
func (c *call) returnCommand() (string, error) {
	if c.s.calls == 0 {
		return "", c.refuse("it stands outside a function")
	}
	status := c.s.status
	if len(c.args) > 0 {
		n, err := c.count()
		if err != nil {
			return "", err
		}
		status = strconv.Itoa(n)
	}
	c.s.returning = true
	return status, nil
}

// eval runs its words as a script.
func (c *call) eval() (string, error) {
	if err := c.known(); err != nil {
		return "", err
	}
	return c.e.source(c.s, c.at, strings.Join(c.args, " "))
}

// source parses and runs text that GRUB holds in memory.
func (e *evaluator) source(s *state, at place, text string) (string, error) {
	if err := e.spend(at, 1+len(text)/16); err != nil {
		return "", err
	}
	nodes, err := parse(newSourceLexer(at, text))
	if err != nil {
		return "", err
	}
	status := success
	for _, n := range nodes {
		if s.over {
			break
		}
		if status, err = e.list(s, []node{n}); err != nil {
			return "", err
		}
	}
	return status, nil
}

// open finds and reads a file that a command names.
func (c *call) open(p string, limit int64) (file, []byte, error) {
	f, err := c.e.resolve(c.s, p)
	if err != nil {
		return file{}, nil, c.refuse("%v", err)
	}
	b, err := c.e.read(f, limit)
	switch {
	case errors.Is(err, ErrTooLarge):
		return file{}, nil, &Error{File: c.at.file, Line: c.at.line, Command: c.name, Reason: err.Error(), Err: ErrTooLarge}
	case errors.Is(err, fs.ErrNotExist):
		return f, nil, err
	case err != nil:
		return file{}, nil, c.refuse("%v", err)
	}
	return f, b, nil
}

// hwmatch compares the machine's hardware with a list, and says so in $match.
func (c *call) hwmatch() (string, error) {
	v := c.e.unknown("hwmatch looks at the machine's hardware")
	return v, c.s.set(c.at, "match", v)
}

// setsUnknown is for commands that put what they find into a variable.
func (c *call) setsUnknown() (string, error) {
	if err := c.known(); err != nil {
		return "", err
	}
	v := c.e.unknown(fmt.Sprintf("%q asks the machine", c.name))
	for i, a := range c.args {
		name, ok := strings.CutPrefix(a, "--set=")
		if !ok && (a == "--set" || a == "-s") && c.name == "probe" || a == "--set" {
			if i+1 == len(c.args) {
				return "", c.refuse("the option %s lacks its value", a)
			}
			name, ok = c.args[i+1], true
		}
		if ok {
			if err := c.s.set(c.at, name, v); err != nil {
				return "", err
			}
		}
	}
	return v, nil
}
