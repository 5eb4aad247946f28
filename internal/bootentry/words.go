package bootentry

import (
	"strconv"
	"strings"
)

// arguments are the words of one command after expansion.
type arguments struct {
	list []string
	// From the word with this index on it is not known how many words there are,
	// because an unknown value stood outside quotes. -1: all are known.
	loose int
	// A word with a * or ? that GRUB would replace by the names of files. Empty: none.
	wild string
}

// argv gathers words as grub-core/script/argv.c does: a word to which nothing,
// not even an empty string, was appended is dropped.
type argv struct {
	list []string
	set  bool // the last of list has been appended to
}

func (a *argv) next() {
	if len(a.list) > 0 && !a.set {
		return
	}
	a.list, a.set = append(a.list, ""), false
}

func (a *argv) append(s string) {
	a.list[len(a.list)-1] += s
	a.set = true
}

func (a *argv) done() []string {
	if len(a.list) > 0 && !a.set {
		return a.list[:len(a.list)-1]
	}
	return a.list
}

// split appends the blank-separated words of s. Blanks at its ends do not separate
// it from what stands beside it in the same word: GRUB differs from a shell here.
func (a *argv) split(s string) {
	for i, f := range strings.FieldsFunc(s, isSpace) {
		if i > 0 {
			a.next()
		}
		a.append(f)
	}
}

func isSpace(r rune) bool { return r == ' ' || r == '\t' || r == '\n' || r == '\r' }

// expand makes a command's words (grub_script_arglist_to_argv in script/execute.c).
func (e *evaluator) expand(s *state, at place, words []word) (arguments, error) {
	var out argv
	args := arguments{loose: -1}
	size := 0
	for _, w := range words {
		out.next()
		for i, p := range w.parts {
			switch p.kind {
			case partQuoted:
				out.append(p.text)
			case partTranslated:
				out.append(e.unknown("it is a message in the language of the machine"))
			case partBare:
				text, wild := e.unescape(p.text, i+1 < len(w.parts))
				if wild && args.wild == "" {
					args.wild = w.raw
				}
				out.append(text)
			case partVar, partQuotedVar:
				for j, v := range e.lookup(s, p.text, p.kind == partVar) {
					if j > 0 {
						out.next()
					}
					if p.kind == partVar {
						if args.loose < 0 && isUnknown(v) {
							args.loose = len(out.list) - 1
						}
						if args.wild == "" && wildcards(v) {
							args.wild = w.raw
						}
					}
					out.append(v)
				}
			}
		}
		if n := len(out.list); n > 0 {
			if size += len(out.list[n-1]); size > maxValue {
				return args, at.tooLarge("a command's words take more than %d bytes", maxValue)
			}
		}
	}
	args.list = out.done()
	return args, e.spend(at, 1+len(args.list)+size/64)
}

// lookup gives the words that a variable stands for: more than one where it is
// split at its blanks or is $@.
func (e *evaluator) lookup(s *state, name string, split bool) []string {
	var out argv
	out.next()
	put := func(v string) {
		if split {
			out.split(v)
		} else {
			out.append(v)
		}
	}
	if !special(name) {
		if v := s.get(name); v != "" {
			put(v)
		}
		return out.done()
	}
	if s.scope == nil {
		return out.done()
	}
	args, loose := s.scope.args, s.scope.loose
	var notKnown string
	if loose >= 0 && loose < len(args) {
		notKnown = e.unknown("how many words there are is not known: " + e.why(args[loose]))
	}
	switch name {
	case "#":
		if loose >= 0 {
			out.append(notKnown)
		} else {
			out.append(strconv.Itoa(len(args)))
		}
	case "*", "@":
		if loose >= 0 {
			out.append(notKnown)
			break
		}
		for i, a := range args {
			switch {
			case i == 0:
			case name == "*" && !split:
				out.append(" ")
			default:
				out.next()
			}
			put(a)
		}
	default:
		n, err := strconv.Atoi(name)
		switch {
		case err != nil || n == 0:
		case loose >= 0 && n > loose:
			out.append(notKnown)
		case n <= len(args):
			put(args[n-1])
		}
	}
	return out.done()
}

// special tells whether a variable is a positional one.
func special(name string) bool {
	return name != "" && (isDigit(name[0]) || name == "#" || name == "*" || name == "@")
}

// unescape takes the backslashes off unquoted text and tells whether it holds a
// wildcard. Red Hat's GRUB leaves \x41 and its like as they are; the others drop
// the backslash. more: the word goes on after this text.
func (e *evaluator) unescape(s string, more bool) (text string, wild bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '*' || s[i] == '?':
			wild = true
			b.WriteByte(s[i])
		case s[i] != '\\' || i+1 == len(s):
			b.WriteByte(s[i])
		case hexEscape(s[i:], more) && e.dialect != Upstream:
			if e.dialect == Unknown {
				b.WriteString(e.unknown(`it holds \x and two digits, which not every GRUB reads alike`))
			} else {
				b.WriteByte('\\')
			}
		default:
			i++
			b.WriteByte(s[i])
		}
	}
	return b.String(), wild
}

// hexEscape tells whether s begins with \x and two hexadecimal digits. more: s may
// go on in a way that is not seen here.
func hexEscape(s string, more bool) bool {
	if !strings.HasPrefix(s, `\x`) {
		return false
	}
	for i := 2; i < 4; i++ {
		if i >= len(s) {
			return more
		}
		if !isDigit(s[i]) && (s[i]|0x20 < 'a' || s[i]|0x20 > 'f') {
			return false
		}
	}
	return true
}

// wildcards tells whether an unquoted variable's value holds a * or ? that counts:
// script/execute.c protects those after a backslash.
func wildcards(v string) bool {
	for i := 0; i < len(v); i++ {
		if (v[i] == '*' || v[i] == '?') && (i == 0 || v[i-1] != '\\') {
			return true
		}
	}
	return false
}
