package bootentry

import (
	"fmt"
	"maps"
	"slices"
)

// evaluator holds what all states of one reading share.
type evaluator struct {
	opts     Options
	dialect  Dialect
	fs       []mounted
	reasons  []string
	reasonOf map[string]int
	devices  []device
	assumed  string // the name by which a search was taken to find the boot file system
	conflict error  // two such searches for different names
	notes    []string
	steps    int
	output   int
	entries  int
	sources  int
	depth    int
}

func (e *evaluator) spend(at place, n int) error {
	if e.steps += n; e.steps > maxSteps {
		return at.tooLarge("the configuration runs longer than any real one")
	}
	return nil
}

func (e *evaluator) write(at place, n int) error {
	if e.output += n; e.output > maxOutput {
		return at.tooLarge("titles and command lines take more than %d bytes", maxOutput)
	}
	return nil
}

// list runs statements as grub_script_execute_cmd does a list of them. What it
// returns, and leaves in $?, is the status of the last.
func (e *evaluator) list(s *state, nodes []node) (status string, err error) {
	status = success
	if len(nodes) == 0 {
		return status, nil
	}
	if err := e.enter(nodes[0].where()); err != nil {
		return "", err
	}
	defer e.leave()
	for _, n := range nodes {
		if s.breaks > 0 || s.over {
			break
		}
		if status, err = e.statement(s, n); err != nil {
			return "", err
		}
		if s.returning {
			break
		}
	}
	s.status = status
	return status, nil
}

func (e *evaluator) enter(at place) error {
	if e.depth++; e.depth >= maxDepth {
		e.depth--
		return at.refuse("", "execution is nested more than %d deep, at which GRUB gives up", maxDepth)
	}
	return nil
}

func (e *evaluator) leave() { e.depth-- }

func (e *evaluator) statement(s *state, n node) (status string, err error) {
	if err := e.enter(n.where()); err != nil {
		return "", err
	}
	defer e.leave()
	if err := e.spend(n.where(), 1); err != nil {
		return "", err
	}
	switch n := n.(type) {
	case *functionNode:
		// GRUB looks for a command first, so such a function would never run.
		if n.name == "slaunch" {
			// It is for a GRUB that has no such command; a prediction is for one that has.
			return s.status, nil
		}
		if isCommand(n.name) {
			return "", n.at.refuse("function", "%q is the name of a command", n.name)
		}
		s.funcs[n.name] = n
		return s.status, nil
	case *ifNode:
		status, err = e.ifStatement(s, n)
	case *forNode:
		status, err = e.forStatement(s, n)
	case *whileNode:
		status, err = e.whileStatement(s, n)
	case *commandNode:
		status, err = e.command(s, n)
	}
	if err != nil {
		return "", err
	}
	s.status = status
	return status, nil
}

func (e *evaluator) ifStatement(s *state, n *ifNode) (string, error) {
	status, err := e.list(s, n.cond)
	if err != nil || s.returning || s.over {
		return status, err
	}
	then := func(s *state) (string, error) { return e.list(s, n.then) }
	otherwise := func(s *state) (string, error) { return e.list(s, n.otherwise) }
	switch {
	case status == success:
		return then(s)
	case isUnknown(status):
		return e.either(s, n.at, e.why(status), then, otherwise)
	}
	return otherwise(s)
}

// either goes both ways of a condition that can't be told. The ways have to agree
// in what they load; a variable in which they differ is unknown afterwards, and a
// menu entry that only one of them makes is one that may be missing.
func (e *evaluator) either(s *state, at place, why string, one, other func(*state) (string, error)) (string, error) {
	if err := e.spend(at, s.cost()); err != nil {
		return "", err
	}
	before := len(s.menu)
	alt := s.clone()
	status, err := one(s)
	if err != nil {
		return "", err
	}
	status2, err := other(alt)
	if err != nil {
		return "", err
	}
	s.boot.offerAll(&alt.boot)
	switch {
	case s.boot.differs(&alt.boot):
		return "", at.refuse("if", "what is loaded depends on a condition that can't be told: %s", why)
	case s.scope != alt.scope || s.breaks != alt.breaks || s.cont != alt.cont ||
		s.returning != alt.returning || s.over != alt.over:
		return "", at.refuse("if", "what runs next depends on a condition that can't be told: %s", why)
	case !maps.Equal(s.funcs, alt.funcs):
		return "", at.refuse("if", "functions depend on a condition that can't be told: %s", why)
	}
	maps.Copy(s.saved, alt.saved)
	mine, theirs := s.menu[before:], alt.menu[before:]
	s.menu = slices.Clone(s.menu[:before])
	for _, c := range append(slices.Clone(mine), theirs...) {
		if c.maybe == "" {
			c.maybe = why
		}
		s.menu = append(s.menu, c)
	}
	names := maps.Clone(s.vars)
	maps.Copy(names, alt.vars)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		a, b := s.vars[name], alt.vars[name]
		if a.value != b.value {
			value := e.unknown(fmt.Sprintf("$%s depends on a condition that can't be told, at %s:%d: %s",
				name, at.file, at.line, why))
			if err := s.set(at, name, value); err != nil {
				return "", err
			}
		}
		if b.exported {
			if err := s.export(at, name); err != nil {
				return "", err
			}
		}
	}
	if status != status2 {
		status = e.unknown(why)
	}
	return status, nil
}

func (e *evaluator) forStatement(s *state, n *forNode) (string, error) {
	args, err := e.expand(s, n.at, n.in)
	if err != nil {
		return "", err
	}
	if args.wild != "" {
		return "", n.at.refuse("for", "%.40q stands for the names of files", args.wild)
	}
	if args.loose >= 0 {
		return "", n.at.refuse("for", "the words are not known: %s", e.why(args.list[args.loose]))
	}
	status := success
	s.loops++
	for _, a := range args.list {
		if s.cont && s.breaks == 1 {
			s.breaks = 0
		}
		if s.breaks > 0 || s.over {
			break
		}
		if err := s.set(n.at, n.name, a); err != nil {
			return "", err
		}
		if status, err = e.list(s, n.body); err != nil {
			return "", err
		}
		if s.returning {
			break
		}
	}
	if s.breaks > 0 {
		s.breaks--
	}
	s.loops--
	return status, nil
}

func (e *evaluator) whileStatement(s *state, n *whileNode) (string, error) {
	s.loops++
	var status string
	for {
		var err error
		if status, err = e.list(s, n.cond); err != nil {
			return "", err
		}
		if s.returning || s.over {
			break
		}
		if isUnknown(status) {
			return "", n.at.refuse("while", "the condition can't be told: %s", e.why(status))
		}
		if (status == success) == n.until {
			break
		}
		if status, err = e.list(s, n.body); err != nil {
			return "", err
		}
		if s.returning || s.over {
			break
		}
		if s.breaks == 1 && s.cont {
			s.breaks = 0
		}
		if s.breaks > 0 {
			break
		}
	}
	if s.breaks > 0 {
		s.breaks--
	}
	s.loops--
	return status, nil
}
