package bootentry

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
)

const (
	maxFragments = 256     // entries of a loader/entries folder
	maxFragment  = 1 << 16 // bytes of one
)

// fragment is one file of loader/entries, as Red Hat's blscfg reads it.
type fragment struct {
	name string // without .conf
	keys []assignment
}

func (f *fragment) first(key string) (string, bool) {
	for _, k := range f.keys {
		if k.name == key {
			return k.value, true
		}
	}
	return "", false
}

func (f *fragment) all(key string) []string {
	var out []string
	for _, k := range f.keys {
		if k.name == key {
			out = append(out, k.value)
		}
	}
	return out
}

// blscfg makes menu entries of the files in loader/entries (Red Hat's
// grub-core/commands/blscfg.c). On EFI it also looks on the partition that the
// firmware started GRUB from, which is not among those known here.
func (c *call) blscfg() (string, error) {
	if len(c.args) > 0 {
		return "", c.refuse("its words are not modelled")
	}
	if c.e.opts.Platform != "pc" {
		c.e.note("the EFI system partition holds no boot loader entries (/loader/entries, /EFI/Linux)")
	}
	dir := "/loader/entries/"
	given := false
	if v, ok := c.s.vars["blsdir"]; ok {
		dir, given = v.value, true
	}
	if marked(dir) {
		return "", c.refuse("$blsdir is not known: %s", c.e.why(dir))
	}
	fragments, err := c.fragments(dir)
	if errors.Is(err, fs.ErrNotExist) && !given {
		fragments, err = c.fragments("/boot/loader/entries/")
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := c.noUnified(); err != nil {
		return "", err
	}
	if err := c.sortFragments(fragments); err != nil {
		return "", err
	}
	for _, f := range fragments {
		if err := c.addFragment(f); err != nil {
			return "", err
		}
	}
	return success, nil
}

// fragments reads a folder of entries.
func (c *call) fragments(dir string) ([]*fragment, error) {
	d, err := c.e.resolve(c.s, dir)
	if err != nil {
		return nil, c.refuse("%v", err)
	}
	files := c.e.fs[d.device.fs].files
	list, err := fs.ReadDir(files, d.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		return nil, c.refuse("%v", err)
	}
	var out []*fragment
	for _, entry := range list {
		name, ok := strings.CutSuffix(entry.Name(), ".conf")
		if !ok || name == "" || name[0] == '.' || entry.IsDir() {
			continue
		}
		if strings.Contains(name, ".conf") {
			return nil, c.refuse("%.60q has .conf in its name twice, at which GRUB may hang", entry.Name())
		}
		if len(out) == maxFragments {
			return nil, c.at.tooLarge("%s has more than %d entries", dir, maxFragments)
		}
		b, err := readFile(files, path.Join(d.name, entry.Name()), maxFragment, 0)
		if err != nil {
			return nil, c.refuse("%v", err)
		}
		if err := c.e.spend(c.at, 1+len(b)/16); err != nil {
			return nil, err
		}
		if strings.IndexByte(string(b), 0) >= 0 {
			return nil, c.refuse("%s holds a zero byte", entry.Name())
		}
		out = append(out, &fragment{name, readKeys(string(b))})
	}
	return out, nil
}

// readKeys reads lines of a key and a value. As in GRUB, the first line that has no
// value ends the file, also an empty one.
func readKeys(text string) []assignment {
	var keys []assignment
	text = strings.ReplaceAll(text, "\r", "")
	for _, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		line = strings.TrimLeft(line, " \t")
		if strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.IndexByte(line, ' ')
		if i < 0 {
			i = strings.IndexByte(line, '\t')
		}
		if i < 0 || i+1 == len(line) {
			break
		}
		keys = append(keys, assignment{line[:i], strings.TrimLeft(line[i+1:], " \t")})
	}
	return keys
}

// noUnified refuses where there are unified kernel images, for which blscfg makes
// entries as well.
func (c *call) noUnified() error {
	dir := "/EFI/Linux"
	if v, ok := c.s.vars["blslinuxdir"]; ok {
		dir = v.value
	}
	d, err := c.e.resolve(c.s, dir)
	if errors.Is(err, errOutside) {
		return nil
	}
	if err != nil {
		return c.refuse("%v", err)
	}
	list, err := fs.ReadDir(c.e.fs[d.device.fs].files, d.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return c.refuse("%v", err)
	}
	for _, entry := range list {
		if strings.HasSuffix(entry.Name(), ".efi") {
			return c.refuse("the entry that it makes of %s/%.40q is not modelled", dir, entry.Name())
		}
	}
	return nil
}

// sortFragments puts the newest first. GRUB keeps the first of two names that
// compare as equal in the order of the folder on the disk, which is not known, and
// its comparison need not be an order at all: then nothing is said.
func (c *call) sortFragments(list []*fragment) error {
	slices.SortStableFunc(list, func(a, b *fragment) int { return compareNVR(b.name, a.name) })
	if err := c.e.spend(c.at, len(list)*len(list)/4); err != nil {
		return err
	}
	for i, a := range list {
		for _, b := range list[i+1:] {
			if compareNVR(a.name, b.name) <= 0 || compareNVR(b.name, a.name) >= 0 {
				return c.refuse("which of %.60q and %.60q comes first can't be told", a.name, b.name)
			}
		}
	}
	return nil
}

// addFragment makes the menu entry of one file, as source text like GRUB's.
func (c *call) addFragment(f *fragment) error {
	kernel, ok := f.first("linux")
	if _, efi := f.first("efi"); efi {
		return c.refuse("%.60q starts an EFI program, which is not modelled", f.name)
	}
	if !ok {
		return c.refuse("%.60q has no key linux", f.name)
	}
	title, ok := f.first("title")
	if !ok {
		title = kernel
	}
	var options string
	value, given := f.first("options")
	if given {
		options, given = c.expandOptions(value)
	}
	if v, ok := c.s.vars["default_kernelopts"]; !given && ok {
		options, given = c.expandOptions(v.value)
	}
	if _, ok := f.first("devicetree"); ok || c.s.get("devicetree") != "" {
		return c.refuse("%.60q loads a device tree, which is not modelled", f.name)
	}
	if c.s.get("early_initrd") != "" {
		return c.refuse("$early_initrd is set, which is not modelled")
	}
	var b strings.Builder
	if save := c.s.get("save_default"); save == "true" || isUnknown(save) {
		b.WriteString("savedefault\n")
	}
	b.WriteString("load_video\nset gfxpayload=keep\ninsmod gzio\nlinux ($root)" + kernel)
	if given {
		b.WriteString(" " + options)
	}
	b.WriteString("\n")
	if initrds := f.all("initrd"); len(initrds) > 0 {
		b.WriteString("initrd")
		for _, i := range initrds {
			b.WriteString(" ($root)" + i)
		}
		b.WriteString("\n")
	}
	at := place{"loader/entries/" + f.name + ".conf", 0}
	ch := choice{at: at, title: title, id: f.name, loose: -1, source: b.String(),
		args: append([]string{title}, f.all("grub_arg")...)}
	return c.add(ch)
}

// expandOptions replaces $name in options as expand_val does, with its peculiarities:
// a variable's value is followed by a space and swallows the one after the name, and
// a piece of one byte is lost. ok is false where GRUB's result is a null pointer.
func (c *call) expandOptions(value string) (out string, ok bool) {
	inVar, start, end := false, 0, 0
	add := func() {
		field := value[start : end+1]
		if !inVar {
			out, ok = out+field, true
			return
		}
		if v, set := c.s.vars[field]; set {
			out, ok = out+v.value+" ", true
		}
	}
	for i := 0; i < len(value); i++ {
		ch := value[i]
		if ch == '$' {
			if start != end {
				add()
				if !ok {
					return "", false
				}
			}
			inVar, start = true, i+1
		} else if inVar && !isAlpha(ch) && !isDigit(ch) && ch != '_' {
			add()
			inVar, start = false, i
			if ch == ' ' {
				start++
			}
		}
		end = i
	}
	if start != end {
		add()
	}
	return out, ok
}
