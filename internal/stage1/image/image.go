package image

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/internal/initramfs"
	"github.com/antievilmaid/aem/internal/stage1/config"
)

// MaxBare is what an initramfs without kernel modules may have, in bytes and compressed.
const MaxBare = 12 << 20

// program is the package whose program can be the first process.
const program = "github.com/antievilmaid/aem/cmd/aem"

// Errors on which a caller decides.
var (
	// ErrProgram: what is to be the first process is not aem, or can't run alone.
	ErrProgram = errors.New("this can't be the first process of stage 1")
	// ErrNowhere: what is to be started would not be found.
	ErrNowhere = errors.New("nothing would bring that into stage 1")
)

// Options say what goes into an initramfs.
type Options struct {
	config.Config
	Program     []byte // aem, statically linked
	Description []byte // a launch description (docs/formats/launch.md); nil where Entry names a menu entry
	// Modules are the kernel's modules, and Load those that are needed.
	Modules *initramfs.Modules
	Load    []string
}

// Image is an initramfs.
type Image struct {
	Bytes []byte // compressed by gzip
	Files []File
	// Bare is how many bytes it would have without kernel modules.
	Bare int
}

// File is what lies in it.
type File struct {
	Path string `json:"path"`
	Size int    `json:"size"`
}

// Build makes an initramfs. The errors wrap [config.ErrConfig], [ErrProgram], [ErrNowhere],
// [launch.ErrDescription] or [initramfs.ErrNoModule] where that is the cause.
func Build(o Options) (*Image, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	told, err := json.Marshal(o.Config)
	if err != nil {
		return nil, err
	}
	var image Image
	fill := func(a *initramfs.Archive) {
		image.Files = nil
		add := func(path string, perm uint64, content []byte) {
			a.File(path, perm, content)
			image.Files = append(image.Files, File{path, len(content)})
		}
		add(config.Init, 0o755, o.Program)
		add(config.Path, 0o644, told)
		if o.Description != nil {
			add(config.DescriptionPath, 0o644, o.Description)
		}
	}
	var bare initramfs.Archive
	fill(&bare)
	if image.Bytes, err = bare.Gzip(); err != nil {
		return nil, err
	}
	image.Bare = len(image.Bytes)
	if len(o.Load) == 0 {
		return &image, nil
	}
	var whole initramfs.Archive
	fill(&whole)
	loaded, err := whole.AddModules(o.Modules, o.Load...)
	if err != nil {
		return nil, err
	}
	for _, m := range loaded {
		image.Files = append(image.Files, File{m.Path, m.Size})
	}
	image.Bytes, err = whole.Gzip()
	return &image, err
}

func (o *Options) check() error {
	if err := o.Config.Check(); err != nil {
		return err
	}
	if err := checkProgram(o.Program); err != nil {
		return err
	}
	if (o.Description == nil) == (o.Entry == "") {
		return fmt.Errorf("%w: it needs either a description or a menu entry", config.ErrConfig)
	}
	if o.Description == nil {
		return nil
	}
	d, err := launch.ParseDescription(o.Description)
	if err != nil {
		return err
	}
	files := append([]launch.File{d.Kernel}, d.Modules...)
	if d.Hypervisor != nil {
		files = append(files, *d.Hypervisor)
	}
	if d.Initrd != nil {
		files = append(files, *d.Initrd)
	}
	for _, f := range files {
		if !o.mounted(f.Path) {
			return fmt.Errorf("%w: %s lies on no disk that is to be mounted", ErrNowhere, f.Path)
		}
	}
	return nil
}

// mounted reports whether a path lies on one of the disks.
func (o *Options) mounted(path string) bool {
	for _, m := range o.Mounts {
		if strings.HasPrefix(path, m.Folder+"/") {
			return true
		}
	}
	return false
}

// checkProgram refuses what would end as a kernel that found no init: nobody could say
// why any more.
func checkProgram(b []byte) error {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("%w: it is no program for Linux: %w", ErrProgram, err)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			return fmt.Errorf("%w: it is linked with libraries, and stage 1 has none; build it with CGO_ENABLED=0", ErrProgram)
		}
	}
	info, err := buildinfo.Read(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("%w: it is not aem: %w", ErrProgram, err)
	}
	if info.Path != program {
		return fmt.Errorf("%w: it is %s, not aem", ErrProgram, info.Path)
	}
	return nil
}
