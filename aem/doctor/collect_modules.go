package doctor

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/antievilmaid/aem/drtm/skl"
	"github.com/antievilmaid/aem/drtm/txt"
	"github.com/antievilmaid/aem/internal/physmem"
)

// modules looks below /boot for SINIT modules and loaders. A file is one by what is
// in it; its name only decides whether it is opened.
func (c *collector) modules() {
	if c.Modules == nil {
		c.Modules = []Module{} // it was looked for
	}
	boot := filepath.Join(c.Root, "boot")
	err := filepath.WalkDir(boot, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(boot, path)
		switch {
		case err != nil && path == boot:
			return err
		case err != nil:
			c.miss(itemModules, reason(err))
			return nil
		case d.IsDir() && strings.Count(name, string(filepath.Separator)) >= 3:
			return fs.SkipDir
		case !d.Type().IsRegular() || !mayBeModule(d.Name()):
			return nil
		case len(c.Modules) == maxModules:
			c.miss(itemModules, fmt.Errorf("there are more than %d modules", maxModules))
			return fs.SkipAll
		}
		info, err := d.Info()
		if err != nil || info.Size() > maxModule {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			c.miss(itemModules, reason(err))
			return nil
		}
		c.keepModule(name, b)
		return nil
	})
	if err != nil {
		c.miss(itemModules, reason(err))
	}
}

// mayBeModule picks files by the names that Intel, distributions and loaders give them.
func mayBeModule(name string) bool {
	name = strings.ToLower(name)
	return strings.HasSuffix(name, ".bin") || strings.HasSuffix(name, ".acm") || strings.Contains(name, "sinit") || strings.HasPrefix(name, "skl")
}

// firmwareModule keeps the SINIT module that some servers' firmware brings along.
func (c *collector) firmwareModule(r *txt.Registers, heap *txt.Heap) {
	if heap.BIOS == nil || heap.BIOS.SINITSize == 0 || heap.BIOS.SINITSize > maxModule || r.SinitBase == 0 {
		return
	}
	b, err := physmem.Read(c.Memory, r.SinitBase, uint64(heap.BIOS.SINITSize))
	if err != nil {
		c.miss(itemModules, err)
		return
	}
	c.keepModule(fmt.Sprintf("the firmware's, in memory at %#x", r.SinitBase), b)
}

// keepModule keeps the head of a module.
func (c *collector) keepModule(path string, b []byte) {
	whole := Module{Size: int64(len(b)), Head: b}
	kind, want := whole.parse()
	if kind == notModule {
		return
	}
	sum := sha256.Sum256(b)
	m := Module{Path: path, Size: int64(len(b)), SHA256: sum[:]}
	// The lists that say what a module runs on lie near its start in all that are
	// known, but nothing demands it: what is kept must read like the whole.
	for size := 16 << 10; ; size *= 2 {
		m.Head = slices.Clone(b[:min(size, len(b))])
		if _, got := m.parse(); size >= len(b) || reflect.DeepEqual(got, want) {
			break
		}
	}
	c.Modules = append(c.Modules, m)
}

// moduleKind is what a file turned out to be.
type moduleKind uint8

const (
	notModule moduleKind = iota
	sinitModule
	sklLoader
)

// parse reads a module, of which the part behind its head counts as zeros: nothing
// that is looked at lies there. The value is a *txt.Module or a *skl.Block.
func (m *Module) parse() (moduleKind, any) {
	if m.Size < int64(len(m.Head)) || m.Size > maxModule {
		return notModule, nil
	}
	b := m.Head
	if int64(len(b)) < m.Size {
		b = make([]byte, m.Size)
		copy(b, m.Head)
	}
	if s, err := txt.ParseModule(b); err == nil {
		return sinitModule, s
	}
	if s, err := skl.Parse(b); err == nil && s.Loader != nil {
		s.Measured = nil // it is not in the head
		return sklLoader, s
	}
	return notModule, nil
}
