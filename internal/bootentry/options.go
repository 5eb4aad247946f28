package bootentry

import "strconv"

// parseOptions follows grub_arg_parse in lib/arg.c for the commands whose options
// matter here. An option that is not in spec refuses the command unless dash is
// set: then, as for menuentry, it is an ordinary word.
func (c *call) parseOptions(spec []option, dash bool) (map[string][]string, []string, error) {
	found := map[string][]string{}
	var rest []string
	for i := 0; i < len(c.args); i++ {
		arg := c.args[i]
		if len(arg) < 2 || arg[0] != '-' {
			rest = append(rest, arg)
			continue
		}
		if arg == "--" {
			return found, append(rest, c.args[i+1:]...), nil
		}
		opt, value, given := findOption(spec, arg)
		switch {
		case opt == nil && dash:
			rest = append(rest, arg)
			continue
		case opt == nil:
			return nil, nil, c.refuse("the option %.40q is not known here", arg)
		case opt.value == noValue && given:
			return nil, nil, c.refuse("the option %.40q takes no value", arg)
		}
		// A value that may be left out never begins with a dash. Nor does the value of a
		// long option, where lib/arg.c then reports that it is missing.
		if opt.value != noValue && !given && i+1 < len(c.args) {
			next := c.args[i+1]
			if next == "" || next[0] != '-' || (arg[1] != '-' && opt.value == needsValue) {
				i++
				value, given = next, true
			}
		}
		if opt.value == needsValue && !given {
			return nil, nil, c.refuse("the option %.40q lacks its value", arg)
		}
		if !given {
			value = ""
		}
		found[opt.long] = append(found[opt.long], value)
	}
	return found, rest, nil
}

type valueKind byte

const (
	noValue valueKind = iota
	mayHaveValue
	needsValue
)

type option struct {
	long  string
	short byte
	value valueKind
}

// findOption finds a long option or a single short one. Several short options in
// one word are refused by not being found.
func findOption(spec []option, arg string) (opt *option, value string, given bool) {
	for i := range spec {
		o := &spec[i]
		if arg[1] != '-' {
			if len(arg) == 2 && arg[1] == o.short {
				return o, "", false
			}
			continue
		}
		name := arg[2:]
		if name == o.long {
			return o, "", false
		}
		if len(name) > len(o.long) && name[:len(o.long)] == o.long && name[len(o.long)] == '=' {
			return o, name[len(o.long)+1:], true
		}
	}
	return nil, "", false
}

// number reads a number as grub_strtoull in kern/misc.c does, and gives what is
// left of s. Octal and hexadecimal numbers are recognised when base is 0.
func number(s string, base int) (n uint64, rest string, ok bool) {
	for s != "" && (s[0] == '\n' || s[0] == '\r' || s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	if base == 0 && len(s) > 1 && s[0] == '0' {
		switch {
		case s[1] == 'x':
			base, s = 16, s[2:]
		case s[1] >= '0' && s[1] <= '7':
			base = 8
		}
	}
	if base == 0 {
		base = 10
	}
	i := 0
	for i < len(s) && digit(s[i]) < base {
		i++
	}
	n, err := strconv.ParseUint(s[:i], base, 64)
	return n, s[i:], err == nil
}

func digit(c byte) int {
	switch {
	case isDigit(c):
		return int(c - '0')
	case isAlpha(c):
		return int(c|0x20-'a') + 10
	}
	return 99
}
