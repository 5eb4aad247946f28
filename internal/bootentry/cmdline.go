package bootentry

import "strings"

// commandLine joins words as grub_create_loader_cmdline in lib/cmdline.c does: a
// backslash before each quote and backslash, double quotes around a word with a
// space. What comes out is measured, so none of it may be prettier.
func (c *call) commandLine(args []string) (string, error) {
	var b strings.Builder
	for i, a := range args {
		a, err := c.named(a)
		if err != nil {
			return "", err
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		quoted := strings.IndexByte(a, ' ') >= 0
		if quoted {
			b.WriteByte('"')
		}
		for j := 0; j < len(a); j++ {
			switch {
			case hexEscape(a[j:], false) && c.e.dialect == Unknown:
				return "", c.refuse(`the word %.40q holds \x and two digits, which Red Hat's GRUB passes on otherwise than others`, a)
			case hexEscape(a[j:], false) && c.e.dialect == RedHat:
				b.WriteString(a[j : j+4])
				j += 3
				continue
			case a[j] == '\\' || a[j] == '\'' || a[j] == '"':
				b.WriteByte('\\')
			}
			b.WriteByte(a[j])
		}
		if quoted {
			b.WriteByte('"')
		}
	}
	return b.String(), c.e.write(c.at, b.Len())
}

// named puts the names that GRUB gives to disks in place of their marks.
func (c *call) named(word string) (string, error) {
	for {
		before, kind, n, after, ok := firstMark(word)
		switch {
		case !ok:
			return word, nil
		case kind != markDevice:
			return "", c.refuse("its word %.40q is not known: %s", printable(word), c.e.why(word))
		}
		d := c.e.devices[n]
		if d.fs < 0 {
			return "", c.refuse("%s", d.problem)
		}
		names := c.e.fs[d.fs].Devices
		if len(names) == 0 {
			return "", c.refuse("its word %.40q holds GRUB's name of the disk, which was not given; after a boot it stands in /proc/cmdline: BOOT_IMAGE=(hd0,gpt2)/...",
				printable(word))
		}
		word = before + names[0] + after
	}
}
