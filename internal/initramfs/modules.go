package initramfs

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/antievilmaid/aem/internal/firstprocess"
)

// ErrNoModule is wrapped where a kernel has a module neither as a file nor
// built in.
var ErrNoModule = errors.New("the kernel has no such module")

// Modules knows the modules of one kernel: the files that depmod and the
// kernel's own build leave in /lib/modules/RELEASE (depmod(8), modules.dep(5)).
type Modules struct {
	dir     string
	file    map[string]string   // module name to path below dir
	needs   map[string][]string // path to the paths it needs
	builtin map[string]bool     // names
	before  map[string][]string // softdep(5): names that should load first
	alias   map[string][]string // names without wildcards to module names
}

// ReadModules reads the indices in dir, such as /lib/modules/6.1.0-13-amd64.
func ReadModules(dir string) (*Modules, error) {
	m := &Modules{
		dir: dir, file: map[string]string{}, needs: map[string][]string{},
		builtin: map[string]bool{}, before: map[string][]string{}, alias: map[string][]string{},
	}
	err := errors.Join(
		m.each("modules.dep", func(f []string) {
			p := strings.TrimSuffix(f[0], ":")
			m.file[moduleName(p)], m.needs[p] = p, f[1:]
		}),
		m.each("modules.builtin", func(f []string) { m.builtin[moduleName(f[0])] = true }),
		optional(m.each("modules.softdep", m.softdep)),
		optional(m.each("modules.alias", func(f []string) {
			if len(f) == 3 && f[0] == "alias" && !strings.ContainsAny(f[1], "*?[") {
				n := moduleName(f[1])
				m.alias[n] = append(m.alias[n], moduleName(f[2]))
			}
		})),
	)
	if err != nil {
		return nil, fmt.Errorf("read the indices of the kernel's modules: %w", err)
	}
	return m, nil
}

// each calls add with the fields of each line that has any and is no comment.
func (m *Modules) each(index string, add func(fields []string)) error {
	f, err := os.Open(filepath.Join(m.dir, index))
	if err != nil {
		return err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20) // some modules need a hundred others, all on one line
	for s.Scan() {
		if fields := strings.Fields(s.Text()); len(fields) > 0 && !strings.HasPrefix(fields[0], "#") {
			add(fields)
		}
	}
	return s.Err()
}

func optional(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// softdep reads "softdep NAME pre: A B post: C". Only the first list matters
// for an order of loading that asks for everything it wants.
func (m *Modules) softdep(f []string) {
	if len(f) < 3 || f[0] != "softdep" {
		return
	}
	name, pre := moduleName(f[1]), false
	for _, w := range f[2:] {
		switch {
		case strings.HasSuffix(w, ":"):
			pre = w == "pre:"
		case pre:
			m.before[name] = append(m.before[name], moduleName(w))
		}
	}
}

// moduleName is the name that the kernel knows a module by: without folder and
// suffixes (.ko, .ko.xz), with the underscores that stand for dashes.
func moduleName(p string) string {
	name, _, _ := strings.Cut(path.Base(p), ".")
	return strings.ReplaceAll(name, "-", "_")
}

// Order lists the files, as paths below the modules' folder, that must be
// loaded to have the named modules: each after all that it needs, none twice.
// What is built into the kernel is left out.
func (m *Modules) Order(names ...string) ([]string, error) {
	var order []string
	var visiting []string
	var visit func(p string) error
	visit = func(p string) error {
		if slices.Contains(order, p) || slices.Contains(visiting, p) {
			return nil // a circle can only come from soft dependencies, which may stay unmet
		}
		visiting = append(visiting, p)
		defer func() { visiting = visiting[:len(visiting)-1] }()
		for _, soft := range m.before[moduleName(p)] {
			for _, name := range append(m.alias[soft], soft) {
				if f, ok := m.file[name]; ok {
					if err := visit(f); err != nil {
						return err
					}
				}
			}
		}
		// modprobe(8) reads a line of modules.dep from its end.
		for _, need := range slices.Backward(m.needs[p]) {
			if _, ok := m.needs[need]; !ok {
				return fmt.Errorf("%s, which %s needs: %w", moduleName(need), moduleName(p), ErrNoModule)
			}
			if err := visit(need); err != nil {
				return err
			}
		}
		order = append(order, p)
		return nil
	}
	for _, name := range names {
		name = moduleName(name)
		f, ok := m.file[name]
		if !ok && m.builtin[name] {
			continue
		}
		if !ok {
			return nil, fmt.Errorf("%s: %w", name, ErrNoModule)
		}
		if err := visit(f); err != nil {
			return nil, err
		}
	}
	return order, nil
}

// Module is a file with a module, as it was put into an archive, or [firstprocess.ModuleList].
type Module struct {
	Path string
	Size int
}

// AddModules adds the named modules with all that they need, in the order in which they
// load, and [firstprocess.ModuleList], which tells that order to whoever loads them. It
// may be called once, and returns what it added.
func (a *Archive) AddModules(m *Modules, names ...string) ([]Module, error) {
	order, err := m.Order(names...)
	if err != nil {
		return nil, fmt.Errorf("put modules into the initramfs: %w", err)
	}
	var added []Module
	var list strings.Builder
	for _, f := range order {
		content, err := os.ReadFile(filepath.Join(m.dir, f))
		if err != nil {
			return nil, fmt.Errorf("put modules into the initramfs: %w", err)
		}
		name := path.Join("/lib/modules", filepath.Base(m.dir), f)
		a.File(name, 0o644, content)
		fmt.Fprintln(&list, name)
		added = append(added, Module{name, len(content)})
	}
	a.File(firstprocess.ModuleList, 0o644, []byte(list.String()))
	return append(added, Module{"/" + firstprocess.ModuleList, list.Len()}), nil
}

// Modules is AddModules for who builds an archive as a list of additions.
func (a *Archive) Modules(m *Modules, names ...string) {
	if _, err := a.AddModules(m, names...); err != nil {
		a.fail(err)
	}
}
