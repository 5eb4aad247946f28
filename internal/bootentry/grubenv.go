package bootentry

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
)

// envSignature begins GRUB's environment block (lib/envblk.h).
const envSignature = "# GRUB Environment Block\n"

// maxEnvBlock bounds an environment block. GRUB's own tool makes 1024 bytes.
const maxEnvBlock = 1 << 16

type assignment struct{ name, value string }

// parseEnv reads an environment block as grub_envblk_iterate in lib/envblk.c does:
// what is broken ends the reading without an error, and a backslash protects the
// byte after it.
func parseEnv(block string) (vars []assignment, ok bool) {
	if len(block) < len(envSignature)+1 || !strings.HasPrefix(block, envSignature) {
		return nil, false
	}
	for p := block[len(envSignature):]; p != ""; {
		if p[0] == '#' {
			p = p[lineEnd(p):]
			if p != "" {
				p = p[1:]
			}
			continue
		}
		name, rest, ok := strings.Cut(p, "=")
		if !ok {
			break
		}
		end := lineEnd(rest)
		if end == len(rest) {
			break
		}
		var value strings.Builder
		for i := 0; i < end; i++ {
			if rest[i] == '\\' {
				i++
			}
			value.WriteByte(rest[i])
		}
		vars = append(vars, assignment{name, value.String()})
		p = rest[end+1:]
	}
	return vars, true
}

// lineEnd is the index of the first newline that no backslash protects, or len(s).
func lineEnd(s string) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '\n':
			return i
		}
	}
	return len(s)
}

var envOptions = []option{{"file", 'f', needsValue}, {"skip-sig", 's', noValue}}

// envFile reads the options of load_env and save_env and gives the block's path.
func (c *call) envFile() (p string, names []string, err error) {
	for _, a := range c.args {
		if isUnknown(a) {
			return "", nil, c.refuse("a word is not known: %s", c.e.why(a))
		}
	}
	opts, names, err := c.parseOptions(envOptions, false)
	if err != nil {
		return "", nil, err
	}
	if f := opts["file"]; f != nil {
		return f[len(f)-1], names, nil
	}
	if c.s.get("prefix") == "" {
		return "", nil, c.refuse("$prefix is not set")
	}
	return c.s.get("prefix") + "/grubenv", names, nil
}

func (c *call) loadEnv() (string, error) {
	p, names, err := c.envFile()
	if err != nil {
		return "", err
	}
	f, b, err := c.open(p, maxEnvBlock)
	if errors.Is(err, fs.ErrNotExist) {
		return failure, nil
	}
	if err != nil {
		return "", err
	}
	if c.s.saved[f.name] {
		return "", c.refuse("the block is read again after save_env changed it")
	}
	vars, ok := parseEnv(string(b))
	if !ok {
		return failure, nil
	}
	for _, v := range vars {
		if len(names) > 0 && !slices.Contains(names, v.name) {
			continue
		}
		if strings.IndexByte(v.name+v.value, 0) >= 0 {
			return "", c.refuse("the block %s holds a zero byte", f.path)
		}
		if err := c.s.set(c.at, v.name, v.value); err != nil {
			return "", err
		}
	}
	return success, nil
}

// saveEnv would write to the disk. It may fail, on a file system that GRUB can't
// write for instance.
func (c *call) saveEnv() (string, error) {
	p, _, err := c.envFile()
	if err != nil {
		return "", err
	}
	f, err := c.e.resolve(c.s, p)
	if err != nil {
		return "", c.refuse("%v", err)
	}
	c.s.saved[f.name] = true
	return c.e.unknown("whether save_env can write depends on the disk"), nil
}
