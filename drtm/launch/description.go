package launch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/antievilmaid/aem/drtm"
)

// MaxDescription bounds a description, in bytes.
const MaxDescription = 1 << 20

// ErrDescription says that a launch description can't be followed.
var ErrDescription = errors.New("the launch description can't be followed")

// Description says what to start and what to measure with it (docs/formats/launch.md).
type Description struct {
	// Hypervisor is Xen; without one a Linux is started.
	Hypervisor *File `json:"hypervisor,omitempty"`
	Kernel     File  `json:"kernel"`
	Initrd     *File `json:"initrd,omitempty"`
	// Modules are further modules of the hypervisor.
	Modules []File  `json:"modules,omitempty"`
	Measure Measure `json:"measure,omitzero"`
}

// File is a file to load.
type File struct {
	Path string `json:"file"`
	Line string `json:"line,omitempty"` // its command line, without the file's name
	// Size is how many bytes the file has; zero where the description does not say.
	Size int64 `json:"size,omitempty"`
	// Packed takes the file as it is, also where it is compressed with gzip.
	Packed bool `json:"packed,omitempty"`
}

// Measure is what is measured of the machine and not started.
type Measure struct {
	Files   []string `json:"files,omitempty"`
	Devices []string `json:"devices,omitempty"` // block devices, from their first byte to their last
	CPU     bool     `json:"cpu,omitempty"`
	SMBIOS  bool     `json:"smbios,omitempty"`
}

// Kind is what the description starts.
func (d *Description) Kind() drtm.Kind {
	if d.Hypervisor != nil {
		return drtm.Xen
	}
	return drtm.Linux
}

// ParseDescription reads a description, in JSON: no key that it does not know, none
// twice, none in other letters, and nothing behind the end. The error wraps
// [ErrDescription].
func ParseDescription(b []byte) (*Description, error) {
	d, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDescription, err)
	}
	return d, nil
}

func parse(b []byte) (*Description, error) {
	var d *Description
	if err := decode(b, MaxDescription, &d); err != nil {
		return nil, err
	}
	return d, d.check()
}

// decode reads JSON into what a pointer points to. It takes nothing that two readers
// might understand differently.
func decode[T any](b []byte, limit int, into **T) error {
	switch {
	case len(b) > limit:
		return fmt.Errorf("it has %d bytes; %d are allowed", len(b), limit)
	case len(bytes.TrimSpace(b)) == 0:
		return errors.New("it is empty")
	case !utf8.Valid(b):
		return errors.New("it is not UTF-8")
	}
	if err := checkKeys(json.NewDecoder(bytes.NewReader(b))); err != nil {
		return err
	}
	in := json.NewDecoder(bytes.NewReader(b))
	in.DisallowUnknownFields()
	if err := in.Decode(into); err != nil {
		return err
	}
	if _, err := in.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows its end")
	}
	if *into == nil {
		return errors.New("it is null")
	}
	return nil
}

// checkKeys refuses keys that package json would take all the same: it forgives
// letters of another case, and of two equal keys the last one wins.
func checkKeys(in *json.Decoder) error {
	type object struct {
		seen  map[string]bool // nil in an array
		value bool            // a value comes next
	}
	var open []object
	for {
		token, err := in.Token()
		switch {
		case errors.Is(err, io.EOF) && len(open) == 0:
			return nil
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return errors.New("it breaks off")
		case err != nil:
			return err
		}
		var now *object
		if len(open) > 0 {
			now = &open[len(open)-1]
		}
		if key, ok := token.(string); ok && now != nil && now.seen != nil && !now.value {
			if strings.ContainsFunc(key, func(r rune) bool { return r < 'a' || r > 'z' }) {
				return fmt.Errorf("%q is no key; all keys are small letters", key)
			}
			if now.seen[key] {
				return fmt.Errorf("it has the key %q twice", key)
			}
			now.seen[key], now.value = true, true
			continue
		}
		if now != nil {
			now.value = false
		}
		switch token {
		case json.Delim('{'):
			open = append(open, object{seen: map[string]bool{}})
		case json.Delim('['):
			open = append(open, object{})
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		}
		if len(open) > 8 {
			return errors.New("it is nested too deeply")
		}
	}
}

func (d *Description) check() error {
	type named struct {
		what string
		*File
	}
	list := []named{{"the kernel", &d.Kernel}}
	if d.Hypervisor != nil {
		list = append(list, named{"the hypervisor", d.Hypervisor})
	}
	if d.Initrd != nil {
		list = append(list, named{"the initramfs", d.Initrd})
		if d.Hypervisor == nil && d.Initrd.Line != "" {
			return errors.New("the initramfs has a command line, which Linux would not read; it belongs to the kernel")
		}
	}
	if d.Hypervisor == nil && len(d.Modules) > 0 {
		return errors.New("there are modules, but no hypervisor to take them")
	}
	if len(d.Modules) > 0 && d.Initrd == nil {
		return errors.New("there are modules, but no initramfs: Xen would take the first of them for it")
	}
	for i := range d.Modules {
		list = append(list, named{fmt.Sprintf("module %d", i+1), &d.Modules[i]})
	}
	for _, f := range list {
		if err := checkPath(f.Path); err != nil {
			return fmt.Errorf("the file of %s: %w", f.what, err)
		}
		if strings.ContainsFunc(f.Line, unicode.IsControl) {
			return fmt.Errorf("the command line of %s has a control character", f.what)
		}
		if f.Size < 0 {
			return fmt.Errorf("the size of %s is negative", f.what)
		}
	}
	for _, path := range append(append([]string(nil), d.Measure.Files...), d.Measure.Devices...) {
		if err := checkPath(path); err != nil {
			return fmt.Errorf("what is to be measured: %w", err)
		}
	}
	return nil
}

func checkPath(p string) error {
	switch {
	case p == "":
		return errors.New("none is named")
	case p[0] != '/':
		return fmt.Errorf("%q does not begin with a slash", p)
	case strings.ContainsFunc(p, unicode.IsControl):
		return fmt.Errorf("%q has a control character", p)
	}
	return nil
}
