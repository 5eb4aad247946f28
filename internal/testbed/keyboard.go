package testbed

import (
	"fmt"
	"strings"
)

// SendKeys types text on the guest's keyboard, as a US layout has it. Enter is
// \n, Escape \x1b, Tab \t, Backspace \b.
func (g *Guest) SendKeys(text string) error {
	for _, r := range text {
		keys, err := keysFor(r)
		if err != nil {
			return err
		}
		if err := g.Press(keys...); err != nil {
			return err
		}
	}
	return nil
}

// Press presses keys together and lets them go. They have QEMU's names
// (QKeyCode), such as ret, f1, ctrl, alt, up.
func (g *Guest) Press(keys ...string) error {
	type key struct {
		Type string `json:"type"`
		Data string `json:"data"`
	}
	var l []key
	for _, k := range keys {
		l = append(l, key{"qcode", k})
	}
	_, err := g.QMP("send-key", map[string]any{"keys": l, "hold-time": 20})
	return err
}

// keyNames are the keys whose names are not the character on them.
var keyNames = map[rune]string{
	'\n': "ret", '\r': "ret", '\x1b': "esc", '\t': "tab", '\b': "backspace", 0x7f: "backspace", ' ': "spc",
	'-': "minus", '=': "equal", '[': "bracket_left", ']': "bracket_right", '\\': "backslash", ';': "semicolon",
	'\'': "apostrophe", '`': "grave_accent", ',': "comma", '.': "dot", '/': "slash",
}

// What a US keyboard gives with Shift, and for which key.
const shifted, unshifted = `~!@#$%^&*()_+{}|:"<>?`, "`1234567890-=[]\\;',./"

func keysFor(r rune) ([]string, error) {
	if i := strings.IndexRune(shifted, r); i >= 0 {
		keys, err := keysFor(rune(unshifted[i]))
		return append([]string{"shift"}, keys...), err
	}
	if name, ok := keyNames[r]; ok {
		return []string{name}, nil
	}
	switch {
	case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
		return []string{string(r)}, nil
	case r >= 'A' && r <= 'Z':
		return []string{"shift", strings.ToLower(string(r))}, nil
	}
	return nil, fmt.Errorf("a US keyboard has no key for %q", r)
}
