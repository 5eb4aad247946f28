package luks

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxStack bounds how deep devices lie on devices.
const maxStack = 16

// A Layer is an opened LUKS volume on which something else lies.
type Layer struct {
	UUID   string // in lower case and without dashes, as the device mapper has it
	Name   string // such as cryptroot, or luks-UUID
	Device string // the volume below it, such as /dev/sda2
}

// Is reports whether the layer is the volume opened.
func (l Layer) Is(v Volume) bool {
	return v.Header != nil && strings.ReplaceAll(v.id(), "-", "") == l.UUID
}

// Beneath tells which LUKS volumes a block device lies on: itself an opened volume, an LVM
// volume on one, a RAID of several. device is a path such as /dev/mapper/vg-root, or a link
// to it; root is as for Find. Each way down from the device must lead through LUKS, or
// there is an *UnencryptedError that names the part which does not: a volume group of
// which one disk is plain can give a plain root.
//
// Asked before any volume is opened, with the device that the kernel's root= names, it
// finds the evil maid's look-alike: an unencrypted file system with the UUID of the root.
// fs.ErrNotExist is the good answer then.
func Beneath(root, device string) ([]Layer, error) {
	name, err := resolve(root, device)
	if err != nil {
		return nil, err
	}
	return descend(root, device, name, 0)
}

// LogicalVolume names the logical volume of LVM that a volume is, as group/volume. It is
// empty where the volume is none.
func (v Volume) LogicalVolume(root string) string {
	name := sysName(v.Device)
	if !strings.HasPrefix(attribute(classBlock(root, name, "dm/uuid")), "LVM-") {
		return ""
	}
	// A hyphen within a name is written twice in the device mapper's (lvm2app, dm_split_name).
	mapped := attribute(classBlock(root, name, "dm/name"))
	for i := 1; i+1 < len(mapped); i++ {
		switch {
		case mapped[i] != '-':
		case mapped[i+1] == '-':
			i++
		default:
			single := strings.NewReplacer("--", "-")
			return single.Replace(mapped[:i]) + "/" + single.Replace(mapped[i+1:])
		}
	}
	return ""
}

func descend(root, asked, name string, depth int) ([]Layer, error) {
	below := slaves(root, name)
	plain := &UnencryptedError{Device: asked, Part: node(name), Reason: "there is nothing below it that is"}
	if name == sysName(asked) {
		plain.Part = asked
	}
	if uuid := attribute(classBlock(root, name, "dm/uuid")); strings.HasPrefix(uuid, "CRYPT-") {
		// CRYPT-LUKS2-<32 hexadecimal digits>-name; CRYPT-PLAIN-name is dm-crypt without LUKS.
		part := strings.SplitN(uuid, "-", 4)
		if len(part) < 4 || part[1] != "LUKS1" && part[1] != "LUKS2" || len(below) != 1 {
			plain.Reason = "it is encrypted in another way: " + clip(uuid)
			return nil, plain
		}
		return []Layer{{strings.ToLower(part[2]), attribute(classBlock(root, name, "dm/name")), node(below[0])}}, nil
	}
	if len(below) == 0 || depth >= maxStack {
		return nil, plain
	}
	var list []Layer
	for _, s := range below {
		l, err := descend(root, asked, s, depth+1)
		if err != nil {
			return nil, err
		}
		for _, layer := range l {
			if !slices.Contains(list, layer) {
				list = append(list, layer)
			}
		}
	}
	return list, nil
}

// slaves are the devices of which a device is made.
func slaves(root, name string) []string {
	entries, err := os.ReadDir(classBlock(root, name, "slaves"))
	if err != nil {
		return nil
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// resolve finds the kernel's name of a device. Below /dev/mapper there are links to it with
// udev, and devices of their own without.
func resolve(root, device string) (string, error) {
	real, err := filepath.EvalSymlinks(filepath.Join(root, device))
	if err != nil {
		return "", fmt.Errorf("the device %s can't be found: %w", clip(device), err)
	}
	base, err := filepath.EvalSymlinks(root)
	if err != nil {
		return "", err
	}
	name := sysName("/" + strings.TrimPrefix(strings.TrimPrefix(real, base), "/"))
	if _, err := os.Stat(classBlock(root, name)); err == nil {
		return name, nil
	}
	if mapped, ok := strings.CutPrefix(name, "mapper!"); ok {
		all, err := blockDevices(root)
		if err != nil {
			return "", err
		}
		for _, n := range all {
			if attribute(classBlock(root, n, "dm/name")) == mapped {
				return n, nil
			}
		}
	}
	return "", fmt.Errorf("%s is not a block device: %w", clip(device), fs.ErrInvalid)
}

// Root tells on which of the volumes the mounted root file system lies. An
// *UnencryptedError says that it does not lie on LUKS, or on LUKS with cipher_null for its
// data or in a key slot, which encrypts nothing. A volume whose header is not among those given is an error: it lies
// in a file, and can't be found from here.
func Root(root string, volumes []Volume) ([]Volume, error) {
	devices, err := rootDevices(root)
	if err != nil {
		return nil, err
	}
	var list []Volume
	for _, d := range devices {
		layers, err := Beneath(root, d)
		if err != nil {
			return nil, err
		}
		for _, l := range layers {
			i := slices.IndexFunc(volumes, l.Is)
			switch {
			case i < 0:
				return nil, fmt.Errorf("the root file system lies on the LUKS volume %s, whose header is on none of the devices", clip(l.UUID))
			case volumes[i].Header.nullCipher() != "":
				return nil, &UnencryptedError{d, volumes[i].Device, "its LUKS header names the cipher " + clip(volumes[i].Header.nullCipher())}
			case !slices.ContainsFunc(list, func(v Volume) bool { return v.Device == volumes[i].Device }):
				list = append(list, volumes[i])
			}
		}
	}
	return list, nil
}

// rootDevices are the devices of the file system that is mounted on /; a btrfs can have
// several.
func rootDevices(root string) ([]string, error) {
	b, err := os.ReadFile(filepath.Join(root, "proc/self/mountinfo"))
	if err != nil {
		return nil, fmt.Errorf("the mounted file systems can't be listed: %w", err)
	}
	var number, kind, source string
	for line := range strings.Lines(string(b)) {
		// 36 35 98:0 /subvolume / rw,noatime shared:1 - ext3 /dev/root rw (proc(5)).
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		l, r := strings.Fields(before), strings.Fields(after)
		if ok && len(l) > 4 && len(r) > 1 && l[4] == "/" {
			number, kind, source = l[2], r[0], r[1] // the last one lies on top
		}
	}
	if number == "" {
		return nil, fmt.Errorf("no file system is mounted on /")
	}
	if kind == "btrfs" {
		return btrfsDevices(root, source)
	}
	link, err := filepath.EvalSymlinks(filepath.Join(root, "sys/dev/block", number))
	if err != nil {
		return nil, &UnencryptedError{clip(source), clip(source), "it is a " + clip(kind) + " and not a block device"}
	}
	return []string{node(filepath.Base(link))}, nil
}

func btrfsDevices(root, source string) ([]string, error) {
	name, err := resolve(root, source)
	if err != nil {
		return nil, err
	}
	lists, err := filepath.Glob(filepath.Join(root, "sys/fs/btrfs/*/devices"))
	if err != nil {
		return nil, err
	}
	for _, l := range lists {
		entries, err := os.ReadDir(l)
		if err != nil {
			return nil, fmt.Errorf("the devices of the root file system can't be listed: %w", err)
		}
		var devices []string
		for _, e := range entries {
			devices = append(devices, node(e.Name()))
		}
		if slices.Contains(devices, node(name)) {
			return devices, nil
		}
	}
	return nil, fmt.Errorf("which devices the btrfs on %s has can't be told", clip(source))
}
