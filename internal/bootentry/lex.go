package bootentry

import "strings"

// partKind says how a piece of a word is expanded.
type partKind byte

const (
	partBare       partKind = iota // unquoted text with its backslashes: * and ? are active
	partQuoted                     // text whose quoting is already taken off
	partVar                        // a variable outside quotes: its value is split at blanks
	partQuotedVar                  // a variable inside double quotes
	partTranslated                 // $"...": depends on GRUB's message catalogue
)

type part struct {
	kind partKind
	text string
}

// word is one argument as it stands in the configuration.
type word struct {
	parts []part
	raw   string
}

type tokenKind byte

const (
	tokenEnd tokenKind = iota
	tokenNewline
	tokenSemi
	tokenOpen
	tokenClose
	tokenWord
	tokenReserved // if, then, fi and their like, where they stand unquoted and alone
)

type token struct {
	kind tokenKind
	word word
	line int
}

// lexer follows grub-core/script/yylex.l.
type lexer struct {
	file  string
	text  string
	lines []int // for each line of text its number in the file
	pos   int
	line  int // index into lines
	first int // the number of the first line
}

// newLexer takes a configuration file. Before GRUB's parser sees a line,
// read_config_file_getline (normal/main.c) has dropped it if it begins with #,
// even inside a quoted string, and grub_file_getline all carriage returns.
func newLexer(file, text string) *lexer {
	lx := &lexer{file: file, first: 1}
	var b strings.Builder
	text = strings.ReplaceAll(text, "\r", "")
	text = strings.TrimSuffix(text, "\n")
	for i, l := range strings.Split(text, "\n") {
		if strings.HasPrefix(l, "#") {
			continue
		}
		b.WriteString(l)
		b.WriteByte('\n')
		lx.lines = append(lx.lines, i+1)
	}
	lx.text = b.String()
	return lx
}

// newSourceLexer takes text that GRUB made itself or keeps in memory, and that
// counts as standing at one place.
func newSourceLexer(at place, text string) *lexer {
	return &lexer{file: at.file, text: text + "\n", first: at.line}
}

func (lx *lexer) place() place {
	if lx.line < len(lx.lines) {
		return place{lx.file, lx.lines[lx.line]}
	}
	if n := len(lx.lines); n > 0 {
		return place{lx.file, lx.lines[n-1]}
	}
	return place{lx.file, lx.first}
}

var reserved = map[string]bool{
	"case": true, "do": true, "done": true, "elif": true, "else": true, "esac": true, "fi": true, "for": true,
	"function": true, "if": true, "in": true, "select": true, "then": true, "until": true, "while": true,
}

// next reads one token. Blanks and comments are skipped; a comment begins only
// where a word could begin.
func (lx *lexer) next() (token, error) {
	for lx.pos < len(lx.text) {
		switch lx.text[lx.pos] {
		case ' ', '\t':
			lx.pos++
			continue
		case '#':
			for lx.pos < len(lx.text) && lx.text[lx.pos] != '\n' {
				lx.pos++
			}
			continue
		}
		break
	}
	at := lx.place()
	if lx.pos >= len(lx.text) {
		return token{kind: tokenEnd, line: at.line}, nil
	}
	simple := func(k tokenKind) (token, error) {
		lx.pos++
		return token{kind: k, line: at.line}, nil
	}
	switch c := lx.text[lx.pos]; c {
	case '\n':
		lx.line++
		return simple(tokenNewline)
	case '{':
		return simple(tokenOpen)
	case '}':
		return simple(tokenClose)
	case ';':
		if strings.HasPrefix(lx.text[lx.pos:], ";;") {
			return token{}, at.refuse("", "%q is no GRUB script", ";;")
		}
		return simple(tokenSemi)
	case '|', '&', '<', '>':
		return token{}, at.refuse("", "%q outside quotes is no GRUB script", string(c))
	}
	w, err := lx.word()
	if err != nil {
		return token{}, err
	}
	t := token{kind: tokenWord, word: w, line: at.line}
	switch {
	case reserved[w.raw]:
		t.kind = tokenReserved
	case w.raw == "[[" || w.raw == "]]":
		return token{}, at.refuse("", "%q is no GRUB script", w.raw)
	}
	return t, nil
}

// word reads one word and splits it as the lexer's SPLIT, DQUOTE and VAR states do.
func (lx *lexer) word() (word, error) {
	at, start := lx.place(), lx.pos
	var parts []part
	var bare strings.Builder
	flush := func() {
		if bare.Len() > 0 {
			parts = append(parts, part{partBare, bare.String()})
			bare.Reset()
		}
	}
	for lx.pos < len(lx.text) {
		c := lx.text[lx.pos]
		if strings.IndexByte("{}|&;<> \t\n", c) >= 0 {
			break
		}
		switch c {
		case '\\':
			if lx.pos+1 >= len(lx.text) {
				return word{}, at.refuse("", "the file ends in a backslash")
			}
			if lx.text[lx.pos+1] == '\n' { // a line that goes on
				lx.line++
			} else {
				bare.WriteString(lx.text[lx.pos : lx.pos+2])
			}
			lx.pos += 2
		case '\'':
			flush()
			end := strings.IndexByte(lx.text[lx.pos+1:], '\'')
			if end < 0 {
				return word{}, at.refuse("", "a single quote is not closed")
			}
			s := lx.text[lx.pos+1 : lx.pos+1+end]
			lx.line += strings.Count(s, "\n")
			lx.pos += end + 2
			parts = append(parts, part{partQuoted, s})
		case '"':
			flush()
			lx.pos++
			p, err := lx.doubleQuoted(at)
			if err != nil {
				return word{}, err
			}
			parts = append(parts, p...)
		case '$':
			flush()
			if strings.HasPrefix(lx.text[lx.pos:], `$"`) {
				lx.pos += 2
				if _, err := lx.translated(at); err != nil {
					return word{}, err
				}
				parts = append(parts, part{kind: partTranslated})
				continue
			}
			name, err := lx.variable(at)
			if err != nil {
				return word{}, err
			}
			parts = append(parts, part{partVar, name})
		default:
			bare.WriteByte(c)
			lx.pos++
		}
	}
	flush()
	return word{parts: parts, raw: lx.text[start:lx.pos]}, nil
}

// doubleQuoted reads up to and with the closing quote. Even an empty string gives
// a part, because GRUB keeps an empty word only where quotes made it.
func (lx *lexer) doubleQuoted(at place) ([]part, error) {
	var parts []part
	var b strings.Builder
	for lx.pos < len(lx.text) {
		switch c := lx.text[lx.pos]; c {
		case '"':
			lx.pos++
			return append(parts, part{partQuoted, b.String()}), nil
		case '\\':
			if lx.pos+1 >= len(lx.text) {
				return nil, at.refuse("", "a double quote is not closed")
			}
			switch n := lx.text[lx.pos+1]; n {
			case '$', '\\', '"':
				b.WriteByte(n)
				lx.pos += 2
			case '\n':
				lx.line++
				lx.pos += 2
			default:
				b.WriteByte('\\')
				lx.pos++
			}
		case '$':
			parts = append(parts, part{partQuoted, b.String()})
			b.Reset()
			name, err := lx.variable(at)
			if err != nil {
				return nil, err
			}
			parts = append(parts, part{partQuotedVar, name})
		case '\n':
			lx.line++
			fallthrough
		default:
			b.WriteByte(c)
			lx.pos++
		}
	}
	return nil, at.refuse("", "a double quote is not closed")
}

// translated skips a $"..." string.
func (lx *lexer) translated(at place) (string, error) {
	for start := lx.pos; lx.pos < len(lx.text); lx.pos++ {
		switch lx.text[lx.pos] {
		case '"':
			lx.pos++
			return lx.text[start : lx.pos-1], nil
		case '\n':
			lx.line++
		case '\\':
			lx.pos++
			if lx.pos < len(lx.text) && lx.text[lx.pos] == '\n' {
				lx.line++
			}
		}
	}
	return "", at.refuse("", "a double quote is not closed")
}

// variable reads $name, ${name}, $1, ${1}, $? and their like.
func (lx *lexer) variable(at place) (string, error) {
	rest := lx.text[lx.pos+1:]
	braced := strings.HasPrefix(rest, "{")
	if braced {
		rest = rest[1:]
	}
	n := 0
	switch {
	case rest == "":
	case strings.IndexByte("?#*@", rest[0]) >= 0:
		n = 1
	case isDigit(rest[0]):
		for n < len(rest) && isDigit(rest[n]) {
			n++
		}
	default:
		n = nameLength(rest)
	}
	size := 1 + n
	if braced {
		size += 2
	}
	if n == 0 || braced && (n >= len(rest) || rest[n] != '}') {
		return "", at.refuse("", "a dollar sign is not followed by a variable's name")
	}
	lx.pos += size
	return rest[:n], nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isAlpha(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// nameLength is the length of the variable's name at the start of s.
func nameLength(s string) int {
	n := 0
	for n < len(s) && (isAlpha(s[n]) || s[n] == '_' || n > 0 && isDigit(s[n])) {
		n++
	}
	return n
}

func isName(s string) bool { return s != "" && nameLength(s) == len(s) }
