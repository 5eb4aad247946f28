package measure

import (
	"bytes"
	"fmt"
	"strings"
)

// ConfigurationError says where a guest's configuration can't be read, or can't be measured.
type ConfigurationError struct {
	Line   int
	Reason string
}

func (e *ConfigurationError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Reason) }

// kind is what a token is. Punctuation is its own kind.
type kind byte

const (
	tokenEnd     kind = 0
	tokenWord    kind = 'w' // a parameter's name
	tokenNumber  kind = '0'
	tokenString  kind = '"'
	tokenNewline kind = '\n' // with the comment before it
	tokenAdd     kind = '+'  // +=
)

// token is a piece of the file, from its first byte up to before the last.
type token struct {
	kind     kind
	from, to int
	line     int
}

// scanner cuts a configuration into tokens exactly as Xen's library does (libxlu_cfg_l.l).
// Where the two differed, the guest would start with another file than the one that
// was measured. So what the library takes for an error is one here, too, and so are
// bytes of which its releases, written in C, do not make the same.
type scanner struct {
	b    []byte
	at   int
	line int
}

func (s *scanner) fail(format string, args ...any) *ConfigurationError {
	return &ConfigurationError{s.line, fmt.Sprintf(format, args...)}
}

const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	digits = "0123456789"
)

func (s *scanner) next() (token, *ConfigurationError) {
	for s.at < len(s.b) && (s.b[s.at] == ' ' || s.b[s.at] == '\t') {
		s.at++
	}
	t := token{from: s.at, line: s.line}
	if s.at == len(s.b) {
		t.to = s.at
		return t, nil
	}
	rest := s.b[s.at:]
	switch c := rest[0]; {
	case strings.IndexByte(lower, c) >= 0:
		t.kind, t.to = tokenWord, s.at+run(rest, lower+digits+"_")
	case strings.IndexByte(digits, c) >= 0:
		t.kind, t.to = tokenNumber, s.at+run(rest, digits+"abcdefx")
	case strings.IndexByte(",[]=;", c) >= 0:
		t.kind, t.to = kind(c), s.at+1
	case bytes.HasPrefix(rest, []byte("+=")):
		t.kind, t.to = tokenAdd, s.at+2
	case c == '\n':
		t.kind, t.to = tokenNewline, s.at+1
		s.line++
	case c == '#':
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			return t, s.fail("the comment in the last line does not end; xl wants an end of line there")
		}
		t.kind, t.to = tokenNewline, s.at+end+1
		s.line++
	case c == '\'', c == '"':
		n, err := s.quoted(rest)
		if err != nil {
			return t, err
		}
		t.kind, t.to = tokenString, s.at+n
	default:
		return t, s.fail("%q has no meaning here; a configuration has lines such as name = \"value\"", rune(c))
	}
	s.at = t.to
	return t, nil
}

// run counts the bytes at the beginning that are in a set.
func run(b []byte, set string) int {
	n := 0
	for n < len(b) && strings.IndexByte(set, b[n]) >= 0 {
		n++
	}
	return n
}

// quoted is the length of a string with its quotes. Its first byte is one.
func (s *scanner) quoted(b []byte) (int, *ConfigurationError) {
	for i := 1; i < len(b) && b[i] != '\n'; i++ {
		switch b[i] {
		case b[0]:
			return i + 1, nil
		case '\\':
			i++
			if i < len(b) && b[i] == '\n' {
				return 0, s.fail("the string does not end in its line")
			}
		}
	}
	return 0, s.fail("the string does not end in its line")
}

// text is what a string or a number says. Xen's library has more escapes than these, and its
// releases read some of them wrongly.
func (s *scanner) text(t token) (string, *ConfigurationError) {
	raw := s.b[t.from:t.to]
	if t.kind != tokenString {
		return string(raw), nil
	}
	raw = raw[1 : len(raw)-1]
	var out []byte
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c == '\\' {
			i++ // there is one more byte, or the string would not have ended
			if c = raw[i]; c != '\\' && c != '"' && c != '\'' {
				return "", &ConfigurationError{t.line, fmt.Sprintf(`the escape \%c is not read here; write the character itself`, c)}
			}
		}
		if c < ' ' || c == 0x7f {
			return "", &ConfigurationError{t.line, fmt.Sprintf("the string holds the control character %#02x", c)}
		}
		out = append(out, c)
	}
	return string(out), nil
}
