package image

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"

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
	// PolicyKey is the file of the public key whose policy has to approve; nil where
	// Policy is.
	PolicyKey []byte
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
// [launch.ErrDescription], [launch.ErrKey] or [initramfs.ErrNoModule] where that is the cause.
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
		if o.PolicyKey != nil {
			add(config.PolicyKeyPath, 0o644, o.PolicyKey)
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
	if err := o.checkPolicy(); err != nil {
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
		if !o.Mounted(f.Path) {
			return fmt.Errorf("%w: %s lies on no disk that is to be mounted", ErrNowhere, f.Path)
		}
	}
	return nil
}

// checkPolicy refuses a stage 1 that would ask no policy although it has a key, or that
// could only refuse everything.
func (o *Options) checkPolicy() error {
	if (o.Policy == nil) != (o.PolicyKey == nil) {
		return fmt.Errorf("%w: a policy that has to approve needs a file and a key", config.ErrConfig)
	}
	if o.Policy == nil {
		return nil
	}
	if !o.Mounted(o.Policy.File) {
		return fmt.Errorf("%w: the policy %s lies on no disk that is to be mounted", ErrNowhere, o.Policy.File)
	}
	_, err := launch.ParsePublicKey(o.PolicyKey)
	return err
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
