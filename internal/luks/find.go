package luks

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// A Volume is a block device with a LUKS header, or one that may have one.
type Volume struct {
	Device string  // such as /dev/sda2
	Header *Header // nil where it can't be measured
	Err    error   // what Open said; with a *CopyError there is a Header too
}

// Find looks at every block device that the kernel knows, those of LVM, RAID and opened
// LUKS volumes among them. root is the folder in which dev and sys lie, "/" on a machine.
//
// The volumes come by UUID in ascending order, the order in which they are measured; after
// them those without a Header, by device. A disk that can't be read is one of these: what
// is on it can't be told. There are volumes beside an error too, which is one or more
// *DuplicateError, or says that sysfs could not be read.
func Find(root string) ([]Volume, error) {
	names, err := blockDevices(root)
	if err != nil {
		return nil, err
	}
	var list []Volume
	for _, name := range names {
		v := look(root, name)
		if !errors.Is(v.Err, ErrNotLUKS) {
			list = append(list, v)
		}
	}
	slices.SortStableFunc(list, func(a, b Volume) int {
		if (a.Header == nil) != (b.Header == nil) {
			if a.Header == nil {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(a.id(), b.id()), cmp.Compare(a.Device, b.Device))
	})
	list = dropMembers(root, list)
	return list, duplicates(list)
}

// id is what a volume is told by. A UUID in capitals is the same UUID.
func (v Volume) id() string {
	if v.Header == nil {
		return ""
	}
	return strings.ToLower(v.Header.UUID)
}

func classBlock(root, name string, rest ...string) string {
	return filepath.Join(append([]string{root, "sys/class/block", name}, rest...)...)
}

// blockDevices lists the kernel's names of what may hold a volume.
func blockDevices(root string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(root, "sys/class/block"))
	if err != nil {
		return nil, fmt.Errorf("the block devices can't be listed: %w", err)
	}
	var names []string
	for _, e := range entries {
		// udev gives memory and floppies no links by UUID, so nobody opens them by mistake;
		// an empty floppy drive takes seconds to say so.
		if n := e.Name(); !slices.ContainsFunc([]string{"ram", "zram", "fd"}, func(p string) bool { return isNumbered(n, p) }) {
			names = append(names, n)
		}
	}
	return names, nil
}

func isNumbered(name, prefix string) bool {
	rest, ok := strings.CutPrefix(name, prefix)
	_, err := strconv.ParseUint(rest, 10, 32)
	return ok && err == nil
}

// attribute reads a file of sysfs; it is empty where there is none.
func attribute(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// node is the device's path. sysfs writes the slash in cciss/c0d0 as an exclamation mark.
func node(name string) string { return "/dev/" + strings.ReplaceAll(name, "!", "/") }

// look opens a device and reads its header.
func look(root, name string) Volume {
	v := Volume{Device: node(name)}
	sectors, err := strconv.ParseInt(attribute(classBlock(root, name, "size")), 10, 64)
	if err != nil || sectors <= 0 || sectors > 1<<53 {
		v.Err = ErrNotLUKS // an empty drive, or a device that is not set up
		return v
	}
	// Without O_NONBLOCK, a drive without a disc would be waited for.
	f, err := os.OpenFile(filepath.Join(root, v.Device), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ENOMEDIUM) || errors.Is(err, syscall.ENXIO) {
		v.Err = ErrNotLUKS
		return v
	}
	if err != nil {
		v.Err = fmt.Errorf("whether it holds a LUKS volume can't be told: %w", err)
		return v
	}
	defer f.Close()
	v.Header, v.Err = Open(f, sectors*sector)
	return v
}

// dropMembers takes out the parts of a mirror when the mirror itself is there: with
// metadata at its end, each part of a RAID 1 begins with the header of the whole.
func dropMembers(root string, list []Volume) []Volume {
	return slices.DeleteFunc(slices.Clone(list), func(part Volume) bool {
		return part.Header != nil && slices.ContainsFunc(list, func(whole Volume) bool {
			return whole.id() == part.id() && whole.Device != part.Device && holds(root, whole.Device, part.Device, 0)
		})
	})
}

// holds reports whether part is one of those that whole is made of.
func holds(root, whole, part string, depth int) bool {
	for _, s := range slaves(root, sysName(whole)) {
		if node(s) == part || depth < maxStack && holds(root, node(s), part, depth+1) {
			return true
		}
	}
	return false
}

func sysName(device string) string {
	return strings.ReplaceAll(strings.TrimPrefix(device, "/dev/"), "/", "!")
}

// duplicates finds UUIDs and labels that belong to several volumes.
func duplicates(list []Volume) error {
	var errs []error
	for _, by := range []struct {
		what string
		of   func(Volume) string
	}{{"UUID", Volume.id}, {"label", func(v Volume) string {
		if v.Header == nil {
			return ""
		}
		return v.Header.Label
	}}} {
		devices := map[string][]string{}
		var values []string
		for _, v := range list {
			if value := by.of(v); value != "" {
				if devices[value] == nil {
					values = append(values, value)
				}
				devices[value] = append(devices[value], v.Device)
			}
		}
		for _, value := range values {
			if len(devices[value]) > 1 {
				errs = append(errs, &DuplicateError{by.what, value, devices[value]})
			}
		}
	}
	return errors.Join(errs...)
}
