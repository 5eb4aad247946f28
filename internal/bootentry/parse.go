package bootentry

// node is a statement of GRUB's script language (grub-core/script/parser.y).
type node interface{ where() place }

type commandNode struct {
	at    place
	words []word
	block []node // the { ... } of menuentry and submenu; nil without one
}

type ifNode struct {
	at         place
	cond, then []node
	otherwise  []node // nil without else or elif
}

type forNode struct {
	at   place
	name string
	in   []word
	body []node
}

type whileNode struct {
	at         place
	until      bool
	cond, body []node
}

type functionNode struct {
	at   place
	name string
	body []node
}

func (n *commandNode) where() place  { return n.at }
func (n *ifNode) where() place       { return n.at }
func (n *forNode) where() place      { return n.at }
func (n *whileNode) where() place    { return n.at }
func (n *functionNode) where() place { return n.at }

// maxNesting bounds statements within statements. GRUB gives up at 64 levels of
// execution (script/execute.c, MAX_RECURSION_DEPTH), two for each level here.
const maxNesting = 40

type parser struct {
	lx    *lexer
	tok   token
	depth int
}

// parse reads a whole text. GRUB runs each statement before it reads the next and
// goes on after a syntax error; here one syntax error refuses the whole text,
// because what GRUB makes of the rest is not worth predicting.
func parse(lx *lexer) ([]node, error) {
	p := &parser{lx: lx}
	if err := p.advance(); err != nil {
		return nil, err
	}
	var nodes []node
	for {
		if err := p.skipNewlines(); err != nil {
			return nil, err
		}
		if p.tok.kind == tokenEnd {
			return nodes, nil
		}
		n, err := p.statement()
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
		if p.tok.kind != tokenNewline && p.tok.kind != tokenSemi {
			return nil, p.unexpected()
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
}

func (p *parser) at() place { return place{p.lx.file, p.tok.line} }

func (p *parser) advance() (err error) {
	p.tok, err = p.lx.next()
	return err
}

func (p *parser) skipNewlines() error {
	for p.tok.kind == tokenNewline {
		if err := p.advance(); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) unexpected() error {
	what := p.tok.word.raw
	switch p.tok.kind {
	case tokenEnd:
		what = "the end of the file"
	case tokenNewline:
		what = "the end of the line"
	case tokenSemi:
		what = ";"
	case tokenOpen:
		what = "{"
	case tokenClose:
		what = "}"
	}
	return p.at().refuse("", "%.40q is not expected here", what)
}

func (p *parser) isReserved(s string) bool {
	return p.tok.kind == tokenReserved && p.tok.word.raw == s
}

func (p *parser) expect(s string) error {
	if !p.isReserved(s) {
		return p.unexpected()
	}
	return p.advance()
}

// statement is a command or, at the outermost level only, a function.
func (p *parser) statement() (node, error) {
	if p.isReserved("function") {
		return p.function()
	}
	return p.command()
}

func (p *parser) function() (node, error) {
	at := p.at()
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	if err := p.skipNewlines(); err != nil {
		return nil, err
	}
	if p.tok.kind != tokenOpen {
		return nil, p.unexpected()
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	body, delimited, err := p.commands()
	if err != nil {
		return nil, err
	}
	if p.tok.kind != tokenClose || !delimited {
		return nil, p.unexpected()
	}
	return &functionNode{at: at, name: name, body: body}, p.advance()
}

// name reads the keyword that stands here and the name after it.
func (p *parser) name() (string, error) {
	if err := p.advance(); err != nil {
		return "", err
	}
	if p.tok.kind != tokenWord || !isName(p.tok.word.raw) {
		return "", p.unexpected()
	}
	name := p.tok.word.raw
	return name, p.advance()
}

// commands reads one or more commands and says whether a delimiter followed the last.
func (p *parser) commands() (nodes []node, delimited bool, err error) {
	if p.depth++; p.depth > maxNesting {
		return nil, false, p.at().refuse("", "statements are nested more than %d deep", maxNesting)
	}
	defer func() { p.depth-- }()
	if err := p.skipNewlines(); err != nil {
		return nil, false, err
	}
	for {
		n, err := p.command()
		if err != nil {
			return nil, false, err
		}
		nodes = append(nodes, n)
		if p.tok.kind != tokenNewline && p.tok.kind != tokenSemi {
			return nodes, false, nil
		}
		if err := p.advance(); err != nil {
			return nil, false, err
		}
		if err := p.skipNewlines(); err != nil {
			return nil, false, err
		}
		if p.tok.kind == tokenClose || p.ends() {
			return nodes, true, nil
		}
	}
}

// ends tells whether a reserved word stands here that can't begin a command.
func (p *parser) ends() bool {
	for _, s := range []string{"then", "else", "elif", "fi", "do", "done"} {
		if p.isReserved(s) {
			return true
		}
	}
	return false
}

// clause reads commands, the delimiter that must follow, and the keyword after it.
func (p *parser) clause(keyword string) ([]node, error) {
	nodes, delimited, err := p.commands()
	if err != nil {
		return nil, err
	}
	if !delimited {
		return nil, p.unexpected()
	}
	if keyword == "" {
		return nodes, nil
	}
	return nodes, p.expect(keyword)
}

func (p *parser) command() (node, error) {
	at := p.at()
	switch {
	case p.isReserved("if"):
		return p.ifClause(at)
	case p.isReserved("for"):
		return p.forClause(at)
	case p.isReserved("while"), p.isReserved("until"):
		until := p.isReserved("until")
		if err := p.advance(); err != nil {
			return nil, err
		}
		cond, err := p.clause("do")
		if err != nil {
			return nil, err
		}
		body, err := p.clause("done")
		return &whileNode{at: at, until: until, cond: cond, body: body}, err
	case p.tok.kind != tokenWord:
		return nil, p.unexpected()
	}
	n := &commandNode{at: at}
	for p.tok.kind == tokenWord || p.tok.kind == tokenReserved {
		n.words = append(n.words, p.tok.word)
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
	if p.tok.kind != tokenOpen {
		return n, nil
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	block, _, err := p.commands()
	if err != nil {
		return nil, err
	}
	if p.tok.kind != tokenClose {
		return nil, p.unexpected()
	}
	n.block = block
	return n, p.advance()
}

// ifClause reads from "if" or "elif" up to and with "fi".
func (p *parser) ifClause(at place) (node, error) {
	if p.depth++; p.depth > maxNesting {
		return nil, p.at().refuse("", "statements are nested more than %d deep", maxNesting)
	}
	defer func() { p.depth-- }()
	if err := p.advance(); err != nil {
		return nil, err
	}
	cond, err := p.clause("then")
	if err != nil {
		return nil, err
	}
	then, err := p.clause("")
	if err != nil {
		return nil, err
	}
	n := &ifNode{at: at, cond: cond, then: then}
	switch {
	case p.isReserved("elif"):
		rest, err := p.ifClause(p.at())
		n.otherwise = []node{rest}
		return n, err
	case p.isReserved("else"):
		if err := p.advance(); err != nil {
			return nil, err
		}
		if n.otherwise, err = p.clause(""); err != nil {
			return nil, err
		}
	}
	return n, p.expect("fi")
}

func (p *parser) forClause(at place) (node, error) {
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	if err := p.expect("in"); err != nil {
		return nil, err
	}
	n := &forNode{at: at, name: name}
	for p.tok.kind == tokenWord || p.tok.kind == tokenReserved {
		n.in = append(n.in, p.tok.word)
		if err := p.advance(); err != nil {
			return nil, err
		}
	}
	if p.tok.kind != tokenNewline && p.tok.kind != tokenSemi {
		return nil, p.unexpected()
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	if err := p.skipNewlines(); err != nil {
		return nil, err
	}
	if err := p.expect("do"); err != nil {
		return nil, err
	}
	n.body, err = p.clause("done")
	return n, err
}
