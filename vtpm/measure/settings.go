package measure

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/antievilmaid/aem/vtpm"
)

// setting is one assignment: a name, and one value or a list of them.
type setting struct {
	name   string
	line   int
	from   int  // its first byte
	to     int  // up to before the last
	add    bool // += in place of =
	list   bool
	nested bool // the list holds lists, whose values are not here
	values []token
}

// maxNesting is deeper than any parameter's lists, and bounds what a file can make us do.
const maxNesting = 8

// parseSettings reads the file (libxlu_cfg_y.y): assignments, each ended by the end of its line
// or by a semicolon. Inside of brackets a line's end means nothing.
func parseSettings(b []byte) (*scanner, []setting, error) {
	p := parser{s: scanner{b: b, line: 1}}
	if err := p.step(); err != nil {
		return nil, nil, err
	}
	var list []setting
	for p.tok.kind != tokenEnd {
		if p.tok.kind == tokenNewline || p.tok.kind == ';' {
			if err := p.step(); err != nil {
				return nil, nil, err
			}
			continue
		}
		set, err := p.assignment()
		if err != nil {
			return nil, nil, err
		}
		list = append(list, set)
	}
	return &p.s, list, nil
}

// parser has one token before it.
type parser struct {
	s    scanner
	tok  token
	last int // where the token before ended
}

func (p *parser) step() *ConfigurationError {
	t, err := p.s.next()
	p.last = p.tok.to
	p.tok = t
	return err
}

func (p *parser) unexpected(wanted string) *ConfigurationError {
	what := "the file ends"
	switch p.tok.kind {
	case tokenEnd:
	case tokenNewline:
		what = "the line ends"
	default:
		what = fmt.Sprintf("there is %.40q", p.s.b[p.tok.from:p.tok.to])
	}
	return &ConfigurationError{p.tok.line, fmt.Sprintf("%s where %s should stand", what, wanted)}
}

func (p *parser) assignment() (setting, error) {
	set := setting{name: string(p.s.b[p.tok.from:p.tok.to]), line: p.tok.line, from: p.tok.from}
	if p.tok.kind != tokenWord {
		return set, p.unexpected("a parameter's name")
	}
	if err := p.step(); err != nil {
		return set, err
	}
	if set.add = p.tok.kind == tokenAdd; !set.add && p.tok.kind != '=' {
		return set, p.unexpected("an equals sign")
	}
	if err := p.step(); err != nil {
		return set, err
	}
	if err := p.value(&set, 0); err != nil {
		return set, err
	}
	set.to = p.last
	switch p.tok.kind {
	case tokenEnd, tokenNewline, ';':
		return set, nil
	}
	return set, p.unexpected("the end of the line")
}

// value reads one value, or a list.
func (p *parser) value(set *setting, depth int) *ConfigurationError {
	switch p.tok.kind {
	case tokenString, tokenNumber:
		if depth <= 1 {
			set.values = append(set.values, p.tok)
		}
		return p.step()
	case '[':
		set.list, set.nested = true, set.nested || depth > 0
		if depth == maxNesting {
			return p.s.fail("there are more than %d lists in one another", maxNesting)
		}
		return p.values(set, depth+1)
	}
	return p.unexpected("a string, a number or a list")
}

// values reads the rest of a list, whose bracket is before it.
func (p *parser) values(set *setting, depth int) *ConfigurationError {
	for {
		if err := p.skipLines(); err != nil { // and the bracket, or the comma
			return err
		}
		if p.tok.kind == ']' {
			return p.step()
		}
		if err := p.value(set, depth); err != nil {
			return err
		}
		for p.tok.kind == tokenNewline {
			if err := p.step(); err != nil {
				return err
			}
		}
		if p.tok.kind != ',' && p.tok.kind != ']' {
			return p.unexpected("a comma or a closing bracket")
		}
		if p.tok.kind == ']' {
			return p.step()
		}
	}
}

// skipLines goes on to the next token that is no line's end.
func (p *parser) skipLines() *ConfigurationError {
	for {
		if err := p.step(); err != nil || p.tok.kind != tokenNewline {
			return err
		}
	}
}

// settingReader gives settings a meaning, and remembers the first that has none.
type settingReader struct {
	s        *scanner
	settings []setting
	err      error
}

func (r *settingReader) fail(line int, format string, args ...any) {
	if r.err == nil {
		r.err = &ConfigurationError{line, fmt.Sprintf(format, args...)}
	}
}

// find returns a parameter that may be set once. Of several, xl takes the last one, which
// nobody who reads the file has to know.
func (r *settingReader) find(name string, list bool) *setting {
	named := func(s setting) bool { return s.name == name }
	i := slices.IndexFunc(r.settings, named)
	if i < 0 {
		return nil
	}
	set := &r.settings[i]
	if next := slices.IndexFunc(r.settings[i+1:], named); next >= 0 {
		r.fail(r.settings[i+1+next].line, "%s= stands in line %d already", name, set.line)
	}
	switch {
	case set.add:
		r.fail(set.line, "%s+= is not read here; write %s=", name, name)
	case set.list && !list:
		r.fail(set.line, "%s= is a list, and should be one value", name)
	case set.nested:
		r.fail(set.line, "%s= holds a list in its list", name)
	case !set.list && list:
		r.fail(set.line, "%s= is one value, and should be a list", name)
	default:
		return set
	}
	return nil
}

// text reads a parameter that is one value. An absent one is empty, and has no token.
func (r *settingReader) text(name string) (string, token) {
	set := r.find(name, false)
	if set == nil {
		return "", token{}
	}
	return r.value(set.values[0]), set.values[0]
}

func (r *settingReader) value(t token) string {
	s, err := r.s.text(t)
	if err != nil && r.err == nil {
		r.err = err
	}
	return s
}

// commandLine does what xl does (parse_cmdline in xl_parse.c): cmdline alone, or else root and extra.
func (r *settingReader) commandLine() string {
	line, has := r.text("cmdline")
	root, hasRoot := r.text("root")
	extra, hasExtra := r.text("extra")
	switch {
	case has.kind != tokenEnd && (hasRoot.kind != tokenEnd || hasExtra.kind != tokenEnd):
		r.fail(has.line, "there is cmdline= and root= or extra=, of which xl ignores the latter two; leave them out")
	case has.kind != tokenEnd:
		return line
	case hasRoot.kind != tokenEnd && hasExtra.kind != tokenEnd:
		return "root=" + root + " " + extra
	case hasRoot.kind != tokenEnd:
		return "root=" + root
	}
	return extra
}

// ownLoader is the name of the program that libxl runs in place of a boot loader, and that asks us.
const ownLoader = "vtpm-bootloader"

// loader returns the parameters that have libxl run it; none where it is not what libxl runs.
func (r *settingReader) loader() (list []setting) {
	if program, _ := r.text("bootloader"); path.Base(program) != ownLoader {
		return nil
	}
	for _, set := range r.settings {
		if set.name == "bootloader" || set.name == "bootloader_args" {
			list = append(list, set)
		}
	}
	return list
}

// vtpms reads what vtpm= says: strings such as "backend=0,uuid=...". libxl gives a vTPM
// without uuid another one at each start, which nobody wants of a vTPM.
func (r *settingReader) vtpms() []vtpm.UUID {
	set := r.find("vtpm", true)
	if set == nil {
		return nil
	}
	var list []vtpm.UUID
	for _, t := range set.values {
		found := false
		for pair := range strings.SplitSeq(r.value(t), ",") {
			key, value, _ := strings.Cut(pair, "=")
			if strings.TrimSpace(key) != "uuid" {
				continue
			}
			u, err := vtpm.ParseUUID(strings.TrimSpace(value))
			if err != nil || found {
				r.fail(t.line, "vtpm= needs one uuid=11111111-2222-3333-4444-555555555555 in each string, and has %.60q", value)
				return nil
			}
			list, found = append(list, u), true
		}
		if !found {
			r.fail(t.line, "vtpm= has no uuid=; then xl would ask for another vTPM at each start")
			return nil
		}
	}
	return list
}
