package bootentry

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Dialect says whose GRUB reads the configuration. They differ in small things:
// which entry default="1>2" is, and what becomes of \x20 in a command line.
type Dialect byte

// With Unknown, what the dialects read differently is refused, unless GRUB's folder
// is called grub: those who ship Red Hat's changes call it grub2.
const (
	Unknown Dialect = iota
	Upstream
	RedHat
)

// Options say what can't be read off the configuration.
type Options struct {
	// Filesystems are those that GRUB reads. The first holds GRUB's own folder.
	Filesystems []Filesystem

	// Config is the path of the configuration in the first file system as GRUB sees
	// it. Empty: the first that is there of grub/grub.cfg, grub2/grub.cfg and the same
	// below boot.
	Config string

	// Platform is GRUB's $grub_platform: "pc" or "efi". Empty: not known.
	Platform string
	// CPU is GRUB's $grub_cpu: "i386" or "x86_64". Empty: not known.
	CPU string

	Dialect Dialect
}

// A Menu is what GRUB shows, with every entry evaluated as if it were chosen.
type Menu struct {
	Entries []Entry // those of submenus in their place
	// Default is the index of the entry that starts when nobody chooses. It is -1 where
	// that can't be told, and DefaultErr says why.
	Default    int
	DefaultErr error
	// Assumed says in sentences what the evaluation took for granted.
	Assumed []string

	filesystems []Filesystem
}

// Read evaluates a configuration. An error means that nothing can be said of any
// entry; what concerns one entry only stands in its Err.
func Read(o Options) (*Menu, error) {
	if len(o.Filesystems) == 0 {
		return nil, errors.New("no file system is given to look for GRUB's configuration in")
	}
	e := &evaluator{opts: o, dialect: o.Dialect, reasonOf: map[string]int{}}
	for _, f := range o.Filesystems {
		m, done, err := f.open()
		if err != nil {
			return nil, err
		}
		defer done()
		e.fs = append(e.fs, m)
	}
	s := newState()
	root := e.deviceValue(device{})
	start := place{file: "GRUB"}
	if err := e.begin(s, start, root); err != nil {
		return nil, err
	}
	f, b, err := e.findConfig(s)
	if err != nil {
		return nil, err
	}
	folder := path.Dir(f.path)
	if e.dialect == Unknown && path.Base(folder) == "grub" {
		e.dialect = Upstream
	}
	prefix := "(" + root + ")" + strings.TrimSuffix(folder, "/")
	if err := s.set(start, "prefix", prefix); err != nil {
		return nil, err
	}
	if err := s.export(start, "prefix"); err != nil {
		return nil, err
	}
	if err := e.config(s, start, f, "("+root+")"+f.path, string(b)); err != nil {
		return nil, err
	}
	m := &Menu{Default: -1, filesystems: o.Filesystems}
	top, err := e.show(s, m, "", nil)
	if err != nil {
		return nil, err
	}
	if e.conflict != nil {
		return nil, e.conflict
	}
	m.Default, m.DefaultErr = e.defaultEntry(top)
	m.Assumed = e.notes
	return m, nil
}

// begin sets the variables that GRUB has before it reads a configuration
// (kern/main.c, normal/main.c). Those that tell of the machine are not known.
func (e *evaluator) begin(s *state, at place, root string) error {
	vars := []assignment{
		{"root", root},
		{"grub_platform", e.opts.Platform}, {"grub_cpu", e.opts.CPU},
		{"color_normal", "light-gray/black"}, {"color_highlight", "black/light-gray"}, {"pager", ""},
	}
	for _, f := range strings.Fields("chainloader_bpb ntldr platform_search_hint default_font_path all_video_module " +
		"menuentry_id menuentry_options 200_final nativedisk_cmd timeout_style") {
		vars = append(vars, assignment{"feature_" + f, "y"})
	}
	for _, name := range strings.Fields("boot cmdpath fw_path lockdown shim_lock secureboot package_version lang " +
		"locale_dir secondary_locale_dir check_signatures tpm_fail_fatal") {
		vars = append(vars, assignment{name, e.unknown(fmt.Sprintf("$%s comes from the machine or from how GRUB was built", name))})
	}
	for _, v := range vars {
		if v.value == "" && v.name != "pager" {
			v.value = e.unknown(fmt.Sprintf("$%s is not known; give it", v.name))
		}
		if err := s.set(at, v.name, v.value); err != nil {
			return err
		}
		if err := s.export(at, v.name); err != nil {
			return err
		}
	}
	return nil
}

// findConfig reads the configuration that GRUB starts with.
func (e *evaluator) findConfig(s *state) (file, []byte, error) {
	at := strings.TrimSuffix(path.Clean("/"+e.opts.Filesystems[0].At), "/")
	names := []string{at + "/grub/grub.cfg", at + "/grub2/grub.cfg", at + "/boot/grub/grub.cfg", at + "/boot/grub2/grub.cfg"}
	if e.opts.Config != "" {
		names = []string{e.opts.Config}
	}
	for _, name := range names {
		f, err := e.resolve(s, name)
		if err != nil {
			return file{}, nil, fmt.Errorf("GRUB's configuration can't be found: %w", err)
		}
		b, err := e.read(f, maxConfig)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return file{}, nil, fmt.Errorf("GRUB's configuration can't be read: %w", err)
		}
		return f, b, nil
	}
	return file{}, nil, fmt.Errorf("there is no configuration of GRUB (%s) in %q: %w",
		strings.Join(names, ", "), e.opts.Filesystems[0].Dir, fs.ErrNotExist)
}

// Find gives the entry that a person names: "default" or nothing for the default
// entry, else a title, an identifier or a number, with > before one in a submenu
// ("1>2") and >> for a > in a title. A name that two entries have is an error: GRUB
// would take the first, but the person may mean the second.
func (m *Menu) Find(name string) (*Entry, error) {
	if name == "" || name == "default" {
		if m.DefaultErr != nil {
			return nil, m.DefaultErr
		}
		return &m.Entries[m.Default], nil
	}
	var found []*Entry
	for i := range m.Entries {
		e := &m.Entries[i]
		if e.answers(name) {
			found = append(found, e)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("%w: %q", ErrNoEntry, name)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("%w: both %s and %s are called %q; give the number", ErrNoEntry, found[0].Number, found[1].Number, name)
}

// answers tells whether a name is an entry's title or identifier, or a path through
// submenus in which each step is a number, a title or an identifier.
func (e *Entry) answers(name string) bool {
	if name == e.Title || name == e.ID {
		return true
	}
	steps := append(slices.Clone(e.Submenus), Submenu{e.Title, e.ID})
	numbers := strings.Split(e.Number, ">")
	for i, step := range steps {
		first, rest := cutDefault(name)
		first = strings.ReplaceAll(first, ">>", ">")
		last := i == len(steps)-1
		if first != step.Title && first != step.ID && first != numbers[i] || last != (rest == "") {
			return false
		}
		name = rest
	}
	return true
}

// readAll reads at most limit bytes.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		return nil, fmt.Errorf("there are more than %d bytes: %w", limit, ErrTooLarge)
	}
	return b, err
}
