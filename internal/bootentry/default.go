package bootentry

import (
	"fmt"
	"strings"
)

// defaultEntry follows $default through the submenus, as a machine does that
// nobody sits at.
func (e *evaluator) defaultEntry(l *level) (int, error) {
	for {
		if len(l.choices) == 0 {
			return -1, fmt.Errorf("%w: the menu that GRUB shows is empty", ErrNoEntry)
		}
		n, err := e.pick(l)
		if err != nil {
			return -1, err
		}
		ch := l.choices[n]
		if ch.below == nil {
			return ch.entry, nil
		}
		l = ch.below
	}
}

// pick reads $default in one menu. GRUB's own code and Red Hat's differ in it, for
// "1>2" and for identifiers that begin with a digit.
func (e *evaluator) pick(l *level) (int, error) {
	if marked(l.deflt) {
		return 0, fmt.Errorf("%w: which entry is the default is not known: %s", ErrUnsupported, e.why(l.deflt))
	}
	all, fewest := l.choices, []choice(nil)
	for _, c := range all {
		if c.maybe == "" {
			fewest = append(fewest, c)
		}
	}
	n, err := e.pickOf(all, l.deflt)
	if err != nil || len(fewest) == len(all) {
		return n, err
	}
	// Some entries may be missing. The default is known if it does not depend on them.
	var other int
	if len(fewest) > 0 {
		if other, err = e.pickOf(fewest, l.deflt); err != nil {
			return 0, err
		}
	}
	if all[n].maybe != "" || fewest[other].at != all[n].at || fewest[other].id != all[n].id {
		for _, c := range all {
			if c.maybe != "" {
				return 0, fmt.Errorf("%w: the default is not known, because it can't be told whether the menu has the entry %q: %s",
					ErrUnsupported, printable(c.title), c.maybe)
			}
		}
	}
	return n, nil
}

func (e *evaluator) pickOf(menu []choice, deflt string) (int, error) {
	switch e.dialect {
	case Upstream:
		return pickUpstream(menu, deflt), nil
	case RedHat:
		return pickRedHat(menu, deflt), nil
	}
	n := pickUpstream(menu, deflt)
	if n != pickRedHat(menu, deflt) {
		return 0, fmt.Errorf("%w: GRUB's own code and Red Hat's take different entries for default=%q; say which it is", ErrUnsupported, deflt)
	}
	return n, nil
}

// pickUpstream is get_entry_number in normal/menu.c: whatever begins with digits is
// a number, even "5.10 kernel".
func pickUpstream(menu []choice, deflt string) int {
	n, _, ok := number(deflt, 0)
	if !ok && n == 0 {
		n = ^uint64(0)
		for i, c := range menu {
			if names(c.title, deflt) || names(c.id, deflt) {
				return i
			}
		}
	}
	return inMenu(menu, n)
}

// inMenu gives the entry with a number, or the first where there is none.
func inMenu(menu []choice, n uint64) int {
	if n < uint64(len(menu)) {
		return int(n)
	}
	return 0
}

// names is menuentry_eq: a > that is not doubled ends the name.
func names(name, spec string) bool {
	first, _ := cutDefault(spec)
	return strings.ReplaceAll(first, ">>", ">") == name
}

// pickRedHat is get_entry_number of Red Hat's GRUB: identifiers first, then titles,
// then a number if nothing follows it.
func pickRedHat(menu []choice, deflt string) int {
	word := deflt
	if i := strings.IndexFunc(word, isSpace); i >= 0 {
		word = word[:i]
	}
	for i, c := range menu {
		if c.id != "" && names(c.id, word) {
			if word != deflt {
				return 0
			}
			return i
		}
	}
	for i, c := range menu {
		if c.title != "" && names(c.title, deflt) {
			return i
		}
	}
	n, rest, ok := number(deflt, 0)
	if !ok || rest != "" {
		return 0
	}
	return inMenu(menu, n)
}
