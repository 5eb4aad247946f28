package luks_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/luks"
)

// machine is a folder with dev, sys and proc as a machine has them.
type machine struct {
	t    *testing.T
	root string
}

func newMachine(t *testing.T) machine {
	m := machine{t, t.TempDir()}
	for _, d := range []string{"dev/mapper", "dev/disk/by-uuid", "sys/class/block", "sys/dev/block", "sys/fs/btrfs", "proc/self"} {
		if err := os.MkdirAll(filepath.Join(m.root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m machine) file(name, content string) {
	m.t.Helper()
	name = filepath.Join(m.root, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m machine) link(target, name string) {
	m.t.Helper()
	name = filepath.Join(m.root, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Symlink(target, name); err != nil {
		m.t.Fatal(err)
	}
}

// disk adds a block device made of others.
func (m machine) disk(name string, content []byte, slaves ...string) {
	m.t.Helper()
	m.file("sys/class/block/"+name+"/size", fmt.Sprintf("%d\n", len(content)/512))
	m.file("dev/"+strings.ReplaceAll(name, "!", "/"), string(content))
	for _, s := range slaves {
		m.file("sys/class/block/"+name+"/slaves/"+s, "")
	}
}

// mapped adds a device of the device mapper, with udev's link to it.
func (m machine) mapped(name, uuid, label string, content []byte, slaves ...string) {
	m.t.Helper()
	m.disk(name, content, slaves...)
	m.file("sys/class/block/"+name+"/dm/uuid", uuid+"\n")
	m.file("sys/class/block/"+name+"/dm/name", label+"\n")
	m.link("../"+name, "dev/mapper/"+label)
}

// mount says what is mounted on /.
func (m machine) mount(number, kind, source, device string) {
	m.t.Helper()
	if device != "" {
		m.link("../../class/block/"+device, "sys/dev/block/"+number)
	}
	m.file("proc/self/mountinfo", "1 1 0:2 / / rw - rootfs rootfs rw\n22 1 0:21 / /proc rw shared:5 - proc proc rw\n"+
		"29 1 "+number+" / / rw,noatime shared:1 - "+kind+" "+source+" rw\n")
}

const (
	dmA = "CRYPT-LUKS2-11111111222233334444555555555555-root"
	dmB = "CRYPT-LUKS1-aaaaaaaabbbbccccddddeeeeeeeeeeee-more"
)

var plainDisk = make([]byte, 2*mib)

// other is golden2 with another UUID and label.
func other(t *testing.T, uuid, label string) []byte {
	b := golden2(t)
	for _, at := range []int{0, copyLen} {
		clear(b[at+24 : at+72])
		copy(b[at+24:], label)
		copy(b[at+168:], uuid)
	}
	mend(b)
	return b
}

func devices(volumes []luks.Volume) []string {
	var l []string
	for _, v := range volumes {
		l = append(l, v.Device)
	}
	return l
}

func TestFind(t *testing.T) {
	m := newMachine(t)
	m.disk("sda", plainDisk)
	m.disk("sda1", plainDisk)
	m.disk("nvme0n1p3", golden1())
	m.disk("sdb", golden2(t))
	m.mapped("dm-0", "LVM-abc", "vg-lv", other(t, "33333333-2222-3333-4444-555555555555", ""), "sda1") // LUKS on LVM
	m.disk("cciss!c0d0p1", other(t, "00000000-2222-3333-4444-555555555555", "a"))
	m.disk("sr0", nil)
	m.disk("loop0", nil)
	damaged := golden2(t)
	damaged[30] ^= 1
	damaged[copyLen+30] ^= 1
	m.disk("sdc", damaged)
	m.file("sys/class/block/sdd/size", "2048\n") // its device is missing
	m.disk("ram0", golden2(t))
	m.disk("fd0", golden2(t))

	volumes, err := luks.Find(m.root)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"/dev/cciss/c0d0p1", "/dev/sdb", "/dev/dm-0", "/dev/nvme0n1p3", "/dev/sdc", "/dev/sdd"}
	if d := cmp.Diff(want, devices(volumes)); d != "" {
		t.Fatal(d)
	}
	for _, v := range volumes[:4] {
		if v.Header == nil || v.Err != nil {
			t.Errorf("%s: %v", v.Device, v.Err)
		}
	}
	if volumes[4].Header != nil || !errors.Is(volumes[4].Err, luks.ErrDamaged) {
		t.Errorf("sdc: %v", volumes[4].Err)
	}
	if volumes[5].Header != nil || !errors.Is(volumes[5].Err, fs.ErrNotExist) {
		t.Errorf("sdd: %v", volumes[5].Err)
	}
}

func TestFindWithoutSysfs(t *testing.T) {
	if _, err := luks.Find(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestCopyOfTheHeaderOnAnotherDiskIsNoticed(t *testing.T) {
	m := newMachine(t)
	m.disk("sda2", golden1())
	m.disk("sdb1", other(t, strings.ToUpper(uuidB), "")) // udev's links are of one case only, crypttab's are not
	volumes, err := luks.Find(m.root)
	var d *luks.DuplicateError
	if !errors.As(err, &d) || len(volumes) != 2 {
		t.Fatalf("%v, %v", volumes, err)
	}
	if diff := cmp.Diff(&luks.DuplicateError{What: "UUID", Value: uuidB, Devices: []string{"/dev/sda2", "/dev/sdb1"}}, d); diff != "" {
		t.Error(diff)
	}
}

func TestTwoVolumesOfOneLabelAreNoticed(t *testing.T) {
	m := newMachine(t)
	m.disk("sda2", golden2(t))
	m.disk("sdb1", other(t, uuidB, "disk"))
	_, err := luks.Find(m.root)
	var d *luks.DuplicateError
	if !errors.As(err, &d) || d.What != "label" || d.Value != "disk" {
		t.Fatalf("%v", err)
	}
}

// The parts of a RAID 1 with metadata at their ends begin as the whole does.
func TestMirrorIsOneVolume(t *testing.T) {
	m := newMachine(t)
	m.disk("sda1", golden2(t))
	m.disk("sdb1", golden2(t))
	if _, err := luks.Find(m.root); err == nil {
		t.Error("two disks with one header pass while there is no mirror of them")
	}
	m.disk("md0", golden2(t), "sda1", "sdb1")
	volumes, err := luks.Find(m.root)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"/dev/md0"}, devices(volumes)); d != "" {
		t.Error(d)
	}
	m.disk("sdc1", golden2(t))
	if _, err := luks.Find(m.root); err == nil {
		t.Error("a third disk that is not of the mirror passes")
	}
}

func TestCopyErrorComesWithTheVolume(t *testing.T) {
	m := newMachine(t)
	b := golden2(t)
	b[copyLen+30] ^= 1
	m.disk("sda2", b)
	volumes, err := luks.Find(m.root)
	if err != nil || len(volumes) != 1 {
		t.Fatalf("%v, %v", volumes, err)
	}
	isCopyError(t, volumes[0].Header, volumes[0].Err)
}

// The boot activates the volume by this name, before anything can be read of it.
func TestLogicalVolume(t *testing.T) {
	m := newMachine(t)
	m.disk("sda2", golden2(t))
	m.mapped("dm-0", "LVM-x", "my--group-the--root--volume", golden1(), "sda2")
	m.mapped("dm-1", dmA, "my--group-root", plainDisk, "dm-0")
	m.mapped("dm-2", "LVM-y", "nohyphen", plainDisk, "sda2")
	for device, want := range map[string]string{"/dev/dm-0": "my-group/the-root-volume", "/dev/dm-1": "", "/dev/dm-2": "", "/dev/sda2": ""} {
		if got := (luks.Volume{Device: device}).LogicalVolume(m.root); got != want {
			t.Errorf("%s is the logical volume %q, want %q", device, got, want)
		}
	}
}

func TestBeneath(t *testing.T) {
	a := luks.Layer{UUID: "11111111222233334444555555555555", Name: "root", Device: "/dev/sda2"}
	b := luks.Layer{UUID: "aaaaaaaabbbbccccddddeeeeeeeeeeee", Name: "more", Device: "/dev/sdb1"}
	m := newMachine(t)
	m.disk("sda1", plainDisk)
	m.disk("sda2", golden2(t))
	m.disk("sdb1", golden1())
	m.mapped("dm-0", dmA, "root", plainDisk, "sda2")
	m.mapped("dm-1", "LVM-x", "vg-root", plainDisk, "dm-0")
	m.mapped("dm-2", dmB, "more", plainDisk, "sdb1")
	m.mapped("dm-3", "LVM-y", "vg-wide", plainDisk, "dm-0", "dm-2")
	m.mapped("dm-4", "LVM-z", "vg-part", plainDisk, "dm-0", "sda1")
	m.mapped("dm-5", "CRYPT-PLAIN-swap-of-mine", "swap", plainDisk, "sda1")
	m.mapped("dm-6", "LVM-y", "vg-snap", plainDisk, "dm-1", "dm-3")
	m.mapped("dm-7", "LVM-l", "vg-loop", plainDisk, "dm-7")
	m.link("../../dm-1", "dev/disk/by-uuid/0815")
	m.link("../../sda1", "dev/disk/by-uuid/4711")
	m.file("dev/mapper/alone", "") // a device of its own, as without udev
	m.file("sys/class/block/dm-8/dm/name", "alone\n")
	m.file("sys/class/block/dm-8/dm/uuid", dmA+"\n")
	m.file("sys/class/block/dm-8/slaves/sda2", "")

	for device, want := range map[string][]luks.Layer{
		"/dev/mapper/root":       {a},
		"/dev/dm-0":              {a},
		"/dev/mapper/vg-root":    {a},
		"/dev/mapper/vg-wide":    {a, b},
		"/dev/mapper/vg-snap":    {a, b},
		"/dev/disk/by-uuid/0815": {a},
	} {
		got, err := luks.Beneath(m.root, device)
		if err != nil {
			t.Errorf("%s: %v", device, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", device, d)
		}
	}
	if got, err := luks.Beneath(m.root, "/dev/mapper/alone"); err != nil || len(got) != 1 || got[0].Name != "alone" {
		t.Errorf("alone: %v, %v", got, err)
	}

	for device, part := range map[string]string{
		"/dev/sda1":              "/dev/sda1",
		"/dev/sda2":              "/dev/sda2", // the volume itself is not on LUKS; what is in it is
		"/dev/mapper/vg-part":    "/dev/sda1",
		"/dev/mapper/swap":       "/dev/dm-5",
		"/dev/mapper/vg-loop":    "/dev/dm-7",
		"/dev/disk/by-uuid/4711": "/dev/sda1", // the look-alike
	} {
		got, err := luks.Beneath(m.root, device)
		var u *luks.UnencryptedError
		if !errors.As(err, &u) || got != nil || u.Device != device || u.Part != part {
			t.Errorf("%s: %v, %v", device, got, err)
		}
	}
	if _, err := luks.Beneath(m.root, "/dev/disk/by-uuid/0000"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a device that is not there: %v", err)
	}
	m.file("dev/null", "")
	if _, err := luks.Beneath(m.root, "/dev/null"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("what is not a block device: %v", err)
	}
}

func TestRoot(t *testing.T) {
	build := func(t *testing.T) machine {
		m := newMachine(t)
		m.disk("sda1", plainDisk)
		m.disk("sda2", golden2(t))
		m.disk("sdb1", golden1())
		m.mapped("dm-0", dmA, "root", plainDisk, "sda2")
		m.mapped("dm-1", "LVM-x", "vg-root", plainDisk, "dm-0")
		m.mapped("dm-2", dmB, "more", plainDisk, "sdb1")
		return m
	}
	root := func(m machine) ([]string, error) {
		m.t.Helper()
		volumes, err := luks.Find(m.root)
		if err != nil {
			m.t.Fatal(err)
		}
		on, err := luks.Root(m.root, volumes)
		return devices(on), err
	}
	t.Run("LVM on LUKS", func(t *testing.T) {
		m := build(t)
		m.mount("253:1", "ext4", "/dev/mapper/vg-root", "dm-1")
		got, err := root(m)
		if d := cmp.Diff([]string{"/dev/sda2"}, got); d != "" || err != nil {
			t.Errorf("%s, %v", d, err)
		}
	})
	t.Run("btrfs on two volumes", func(t *testing.T) {
		m := build(t)
		m.file("sys/fs/btrfs/other/devices/sda1", "")
		m.file("sys/fs/btrfs/uuid/devices/dm-0", "")
		m.file("sys/fs/btrfs/uuid/devices/dm-2", "")
		m.file("sys/fs/btrfs/features/x", "")
		m.mount("0:30", "btrfs", "/dev/mapper/root", "")
		got, err := root(m)
		if d := cmp.Diff([]string{"/dev/sda2", "/dev/sdb1"}, got); d != "" || err != nil {
			t.Errorf("%s, %v", d, err)
		}
	})
	for name, c := range map[string]struct {
		change func(m machine)
		part   string
	}{
		"a plain partition":       {func(m machine) { m.mount("8:1", "ext4", "/dev/sda1", "sda1") }, "/dev/sda1"},
		"an overlay":              {func(m machine) { m.mount("0:30", "overlay", "overlay", "") }, `"overlay"`},
		"btrfs with a plain part": {func(m machine) { m.mountBtrfs("dm-0", "sda1") }, "/dev/sda1"},
		"cipher_null": {func(m machine) {
			m.openedNull(`"encryption":"aes-xts-plain64","sector_size"`, `"encryption":"cipher_null-ecb","sector_size"`)
		}, "/dev/sda2"},
		"cipher_null in a key slot": {func(m machine) {
			m.openedNull(`"encryption":"aes-xts-plain64","key_size"`, `"encryption":"cipher_null-ecb","key_size"`)
		}, "/dev/sda2"},
	} {
		t.Run(name, func(t *testing.T) {
			m := build(t)
			c.change(m)
			got, err := root(m)
			var u *luks.UnencryptedError
			if !errors.As(err, &u) || got != nil || u.Part != c.part {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	t.Run("header in a file", func(t *testing.T) {
		m := build(t)
		m.file("dev/sda2", string(plainDisk))
		m.mount("253:0", "ext4", "/dev/mapper/root", "dm-0")
		if got, err := root(m); err == nil || got != nil || !strings.Contains(err.Error(), "11111111222233334444555555555555") {
			t.Errorf("%v, %v", got, err)
		}
	})
}

// openedNull has its root on a volume with another text in its header.
func (m machine) openedNull(from, to string) {
	m.t.Helper()
	m.mount("253:0", "ext4", "/dev/mapper/root", "dm-0")
	json, err := os.ReadFile("testdata/luks2.json")
	if err != nil || !strings.Contains(string(json), from) {
		m.t.Fatalf("%q is not there: %v", from, err)
	}
	m.file("dev/sda2", string(build(strings.Replace(string(json), from, to, 1), 2*mib)))
}

func (m machine) mountBtrfs(devices ...string) {
	for _, d := range devices {
		m.file("sys/fs/btrfs/uuid/devices/"+d, "")
	}
	m.mount("0:30", "btrfs", "/dev/"+devices[0], "")
}
