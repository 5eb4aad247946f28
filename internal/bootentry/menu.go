package bootentry

import (
	"slices"
	"strconv"
	"strings"
)

// choice is a line of a menu before it is chosen.
type choice struct {
	at      place
	title   string
	id      string
	args    []string // $1 and what follows
	loose   int      // as in arguments
	block   []node
	source  string // in place of block, for entries that GRUB itself makes
	submenu bool
	maybe   string // as Entry.Maybe

	entry int    // index into Menu.Entries once evaluated; -1 for a submenu
	below *level // of a submenu
	err   error  // of a submenu
}

// level is a menu as it is shown.
type level struct {
	choices []choice
	deflt   string // $default there
}

var menuentryOptions = []option{
	{"class", 1, needsValue}, {"users", 2, needsValue}, {"hotkey", 3, needsValue},
	{"source", 4, needsValue}, {"id", 0, needsValue}, {"unrestricted", 0, noValue},
}

// menuentry adds a line to the menu (commands/menuentry.c). Its block runs when it
// is chosen.
func (c *call) menuentry() (string, error) {
	for i, a := range c.args {
		if isUnknown(a) {
			return "", c.refuse("its word %d is not known: %s", i+1, c.e.why(a))
		}
	}
	opts, args, err := c.parseOptions(menuentryOptions, true)
	switch {
	case err != nil:
		return "", err
	case len(args) == 0:
		return "", c.refuse("it has no title")
	case opts["source"] != nil || c.block == nil:
		return "", c.refuse("it has no block")
	}
	ch := choice{at: c.at, title: args[0], id: args[0], args: args, loose: -1, block: c.block, submenu: c.name == "submenu"}
	if id := opts["id"]; id != nil {
		ch.id = id[len(id)-1]
	}
	if marked(ch.title + ch.id) {
		return "", c.refuse("its title or identifier holds the name of a disk")
	}
	return success, c.add(ch)
}

func (c *call) add(ch choice) error {
	size := len(ch.id) + len(ch.source)
	for _, a := range ch.args {
		size += len(a)
	}
	if c.e.entries++; c.e.entries > maxEntries {
		return c.at.tooLarge("the menu has more than %d entries", maxEntries)
	}
	c.s.menu = append(c.s.menu, ch)
	return c.e.write(c.at, size)
}

// show evaluates every line of a menu, each from the state in which the menu is shown.
func (e *evaluator) show(s *state, m *Menu, prefix string, above []Submenu) (*level, error) {
	l := &level{choices: s.menu, deflt: s.get("default")}
	for i := range l.choices {
		ch := &l.choices[i]
		number := prefix + strconv.Itoa(i)
		if err := e.spend(ch.at, s.cost()); err != nil {
			return nil, err
		}
		inner, err := e.choose(s, ch)
		if ch.submenu && err == nil {
			switch {
			case len(above) >= maxSubmenus:
				err = ch.at.tooLarge("submenus are nested more than %d deep", maxSubmenus)
			case inner.boot.kind != Nothing:
				err = ch.at.refuse("submenu", "it loads something itself")
			}
			if err == nil {
				ch.entry = -1
				below := append(slices.Clone(above), Submenu{printable(ch.title), printable(ch.id)})
				if ch.below, err = e.show(inner, m, number+">", below); err != nil {
					return nil, err
				}
				continue
			}
		}
		if err != nil && e.steps > maxSteps {
			return nil, err
		}
		ch.err, ch.entry = err, len(m.Entries)
		entry := Entry{Number: number, Title: printable(ch.title), ID: printable(ch.id), Submenus: above, Maybe: ch.maybe, Err: err}
		if err == nil {
			b := inner.boot
			entry.Kind, entry.Command, entry.Kernel, entry.Modules, entry.Initrds = b.kind, b.command, b.kernel, b.modules, b.initrds
			entry.Slaunch, entry.SlaunchMode, entry.SlaunchModules = b.slaunch, b.mode, b.skinits
		}
		m.Entries = append(m.Entries, entry)
	}
	return l, nil
}

// choose runs an entry as grub_menu_execute_entry in normal/menu.c does, up to the
// point where it would boot or show the submenu.
func (e *evaluator) choose(outer *state, ch *choice) (*state, error) {
	s := outer.clone()
	if ch.submenu {
		s = outer.inner()
	}
	s.menu, s.over, s.inEntry = nil, false, true
	chosen := strings.ReplaceAll(ch.id, ">", ">>")
	if before := outer.get("chosen"); before != "" {
		chosen = before + ">" + chosen
	}
	if err := s.set(ch.at, "chosen", chosen); err != nil {
		return nil, err
	}
	if err := s.export(ch.at, "chosen"); err != nil {
		return nil, err
	}
	if _, rest := cutDefault(outer.get("default")); rest != "" {
		if err := s.set(ch.at, "default", rest); err != nil {
			return nil, err
		}
	} else {
		s.unset("default")
	}
	s.scope = &scope{ch.args, ch.loose}
	if ch.source != "" {
		_, err := e.source(s, ch.at, ch.source)
		return s, err
	}
	for _, n := range ch.block {
		if s.over {
			break
		}
		if _, err := e.list(s, []node{n}); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// cutDefault splits the value of $default at the first > that is not doubled.
func cutDefault(v string) (first, rest string) {
	for i := 0; i < len(v); i++ {
		if v[i] != '>' {
			continue
		}
		if i+1 < len(v) && v[i+1] == '>' {
			i++
			continue
		}
		return v[:i], v[i+1:]
	}
	return v, ""
}
