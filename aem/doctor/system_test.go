package doctor_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/aem/doctor"
	"github.com/antievilmaid/aem/internal/bootentry"
	"github.com/antievilmaid/aem/internal/bootside"
	"github.com/antievilmaid/aem/internal/initramfs"
	"github.com/antievilmaid/aem/internal/luks"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm2"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

const (
	rootUUID  = "11111111-2222-3333-4444-555555555555"
	otherUUID = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	diskSize  = 20 << 20
)

// installed is a folder that looks like a Debian whose root is on LUKS.
type installed struct {
	t    *testing.T
	root string
	o    doctor.SystemOptions
}

func newInstalled(t *testing.T) *installed {
	t.Helper()
	testbed.Need(t, "cryptsetup")
	s := &installed{t: t, root: t.TempDir()}
	s.file("usr/share/initramfs-tools/hook-functions", "")
	s.file("boot/grub/grub.cfg", "menuentry Debian { linux /vmlinuz quiet; initrd /initrd.img }\nmenuentry Launch { slaunch; linux /vmlinuz; initrd /initrd.img }\n")
	s.file("boot/vmlinuz", "kernel")
	s.file("boot/initrd.img", s.image(nil))
	s.file("sys/class/rtc/rtc0/since_epoch", fmt.Sprintln(noon.Unix()+3))
	s.file("proc/uptime", "3600.25 1000.00\n")
	for _, name := range []string{"vmlinuz", "initrd.img"} {
		s.must(os.Chtimes(filepath.Join(s.root, "boot", name), noon, noon.Add(-time.Hour)))
	}

	s.volume("sda2", "luks2")
	s.disk("dm-0", "")
	s.file("sys/class/block/dm-0/dm/uuid", "CRYPT-LUKS2-"+strings.ReplaceAll(rootUUID, "-", "")+"-root\n")
	s.file("sys/class/block/dm-0/dm/name", "root\n")
	s.file("sys/class/block/dm-0/slaves/sda2", "")
	s.mount("dm-0")
	s.o = doctor.SystemOptions{
		Root: s.root, Now: noon,
		Menu: func() (*bootentry.Menu, error) {
			return bootentry.Read(bootentry.Options{Filesystems: []bootentry.Filesystem{{Dir: filepath.Join(s.root, "boot")}}})
		},
		Clock: func() (tpm2.Clock, error) {
			return tpm2.Clock{Milliseconds: uint64((400 * 24 * time.Hour).Milliseconds()), Resets: 300}, nil
		},
	}
	return s
}

func (s *installed) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *installed) file(name, content string) {
	s.t.Helper()
	path := filepath.Join(s.root, name)
	s.must(os.MkdirAll(filepath.Dir(path), 0o755))
	s.must(os.WriteFile(path, []byte(content), 0o644))
}

// disk adds a block device of 20 MiB.
func (s *installed) disk(name, content string) {
	s.t.Helper()
	s.file("sys/class/block/"+name+"/size", fmt.Sprintln(diskSize/512))
	s.file("dev/"+name, content)
	s.must(os.Truncate(filepath.Join(s.root, "dev", name), diskSize))
}

// formatted are volumes that cryptsetup made, by their kind: each takes a while.
var formatted = map[string]func() ([]byte, error){
	"luks1": sync.OnceValues(func() ([]byte, error) { return format("luks1", otherUUID) }),
	"luks2": sync.OnceValues(func() ([]byte, error) { return format("luks2", rootUUID) }),
}

func format(kind, uuid string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "volume-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "volume")
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, diskSize)); err != nil {
		return nil, err
	}
	cmd := exec.Command("cryptsetup", "luksFormat", "--disable-locks", "--batch-mode", "--type", kind, "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000",
		"--uuid", uuid, "--key-file", "-", path)
	cmd.Stdin = strings.NewReader("passphrase")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	b, err := os.ReadFile(path)
	return bytes.TrimRight(b, "\x00"), err
}

// volume adds a block device with a LUKS volume.
func (s *installed) volume(name, kind string) {
	s.t.Helper()
	b, err := formatted[kind]()
	s.must(err)
	s.disk(name, string(b))
}

func (s *installed) mount(device string) {
	s.t.Helper()
	s.file("proc/self/mountinfo", "29 1 253:0 / / rw,noatime shared:1 - ext4 /dev/"+device+" rw\n")
	link := filepath.Join(s.root, "sys/dev/block/253:0")
	s.must(os.MkdirAll(filepath.Dir(link), 0o755))
	os.Remove(link)
	s.must(os.Symlink("../../class/block/"+device, link))
}

// image is an initramfs with these files.
func (s *installed) image(files map[string]string) string {
	s.t.Helper()
	var a initramfs.Archive
	a.File("init", 0o755, []byte("#!/bin/sh\n"))
	for name, content := range files {
		a.File(name, 0o755, []byte(content))
	}
	var b bytes.Buffer
	s.must(a.Write(&b))
	return b.String()
}

func (s *installed) rows() []doctor.Record {
	s.t.Helper()
	return doctor.ExamineSystem(doctor.CollectSystem(s.o))
}

// want demands of one row its state, words of its text, and that there is advice
// where there is something to do.
func (s *installed) want(row string, state doctor.State, words ...string) {
	s.t.Helper()
	r := doctor.Find(s.rows(), row)
	if r == nil {
		s.t.Fatalf("there is no row %s", row)
	}
	if r.State != state {
		s.t.Errorf("%s is %s, not %s: %s", row, r.State, state, r.Text)
	}
	for _, w := range words {
		if !strings.Contains(r.Text+r.Advice, w) {
			s.t.Errorf("%s does not speak of %q: %q, advice %q", row, w, r.Text, r.Advice)
		}
	}
}

// Looked at as it should be, with nothing changed by the looking.
func TestSystemThatFits(t *testing.T) {
	s := newInstalled(t)
	before := snapshot(t, s.root)
	s.want(doctor.RowBootPath, doctor.Good, "a BIOS", "2 entries")
	s.want(doctor.RowEncryption, doctor.Good, "/dev/sda2 (LUKS2, 1 key slot, UUID "+rootUUID+")")
	s.want(doctor.RowVolumes, doctor.Good, "1 volume")
	s.want(doctor.RowInitramfs, doctor.Good, "initramfs-tools", "not in it before")
	s.want(doctor.RowClock, doctor.Good, "2026-11-21 12:00 UTC", "400 days", "300 starts")
	for _, r := range s.rows() {
		if r.Chapter == "" || r.Text == "" {
			t.Errorf("a row says too little: %+v", r)
		}
	}
	if d := cmp.Diff(before, snapshot(t, s.root)); d != "" {
		t.Errorf("looking changed something:\n%s", d)
	}
}

// snapshot lists every file with its size and time of change.
func snapshot(t *testing.T, root string) map[string]string {
	t.Helper()
	list := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		list[path] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestRowsOfTheBootPath(t *testing.T) {
	const launch = "menuentry Launch { slaunch; linux /vmlinuz; initrd /initrd.img }\n"
	const plain = "menuentry 'De\x1bbian' { linux /vmlinuz quiet; initrd /initrd.img }\n"
	for _, test := range []struct {
		name, config, row string
		state             doctor.State
		word              string
	}{
		{"launches by default", launch, doctor.RowBootEntry, doctor.Good, "makes a dynamic launch"},
		{"another entry launches", plain + launch, doctor.RowBootEntry, doctor.Warning, "and others do"},
		{"none launches", plain, doctor.RowBootEntry, doctor.Warning, "boot install --launch"},
		{"a hostile title", plain, doctor.RowBootEntry, doctor.Warning, `De\x1bbian`},
		{"a hostile file", "menuentry x { linux '/k\x1b[2J' }\n", doctor.RowBootEntry, doctor.Warning, `/k\x1b[2J`},
		{"cannot be evaluated", "menuentry x { frobnicate }\n", doctor.RowBootEntry, doctor.Warning, "frobnicate"},
		{"loads nothing", "menuentry x { reboot }\n", doctor.RowBootEntry, doctor.Warning, "starts no system"},
		{"tboot", "menuentry x { multiboot /tboot.gz; module /vmlinuz }\n", doctor.RowBootEntry, doctor.Good, "makes a dynamic launch"},
		{"no configuration that GRUB reads", "menuentry {", doctor.RowBootPath, doctor.Warning, "could not be read"},
		{"no configuration that GRUB reads", "menuentry {", doctor.RowBootEntry, doctor.NotApplicable, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newInstalled(t)
			s.file("boot/grub/grub.cfg", test.config)
			s.file("boot/tboot.gz", "tboot")
			s.file("boot/k\x1b[2J", "kernel")
			s.want(test.row, test.state, test.word)
		})
	}
	s := newInstalled(t)
	s.file("sys/firmware/efi/systab", "")
	s.want(doctor.RowBootPath, doctor.Good, "UEFI")
	s.file("etc/aem/grub.conf", "")
	s.file("boot/grub/grub.cfg", plain)
	s.want(doctor.RowBootEntry, doctor.Warning, "although they were asked for", "update-grub")
}

func TestRowsOfTheDisks(t *testing.T) {
	s := newInstalled(t)
	s.volume("sdb1", "luks1")
	s.want(doctor.RowVolumes, doctor.Warning, "2 volumes", "LUKS1: /dev/sdb1", "init --disk: /dev/sdb1 (LUKS1, 1 key slot")
	s.must(os.WriteFile(filepath.Join(s.root, "dev/sdb1"), []byte("LUKS\xba\xbe\x00\x07"), 0o644))
	s.must(os.Truncate(filepath.Join(s.root, "dev/sdb1"), 20<<20))
	s.want(doctor.RowVolumes, doctor.Warning, "1 volume; can't be measured: /dev/sdb1")

	// A copy of the root's header on another disk.
	b, err := os.ReadFile(filepath.Join(s.root, "dev/sda2"))
	s.must(err)
	s.file("dev/sdb1", string(b))
	s.want(doctor.RowVolumes, doctor.Bad, "several LUKS volumes", "/dev/sda2, /dev/sdb1")

	s = newInstalled(t)
	s.disk("sdc1", "")
	s.mount("sdc1")
	s.want(doctor.RowEncryption, doctor.Bad, "not encrypted", "/dev/sdc1", "--no-disks")
	s.want(doctor.RowVolumes, doctor.Good, "/dev/sda2")
	s.must(os.Remove(filepath.Join(s.root, "proc/self/mountinfo")))
	s.want(doctor.RowEncryption, doctor.Unknown, "mountinfo")
	s.must(os.RemoveAll(filepath.Join(s.root, "sys/class/block")))
	s.want(doctor.RowVolumes, doctor.Unknown, "can't be listed")

	forbidden := &doctor.System{MenuErr: fs.ErrNotExist, Volumes: []luks.Volume{{Device: "/dev/sda", Err: fmt.Errorf("open /dev/sda: %w", fs.ErrPermission)}}, RootErr: fs.ErrPermission}
	if r := doctor.Find(doctor.ExamineSystem(forbidden), doctor.RowVolumes); r.State != doctor.Unknown || !strings.Contains(r.Advice, "root") {
		t.Errorf("without the right to look: %+v", r)
	}
}

func TestRowOfTheInitramfs(t *testing.T) {
	s := newInstalled(t)
	s.must(bootside.Install(s.root, bootside.Config{Media: []string{"UUID=1"}}))
	s.want(doctor.RowInitramfs, doctor.Warning, "does not have it", "update-initramfs")
	conf, err := os.ReadFile(filepath.Join(s.root, bootside.ConfFile))
	s.must(err)
	files := map[string]string{"usr/bin/aem": "program", "etc/aem/boot.conf": string(conf)}
	s.file("boot/initrd.img", s.image(files))
	s.want(doctor.RowInitramfs, doctor.Good, "shows the proof")
	s.file("boot/initrd.img", s.image(map[string]string{"etc/aem/boot.conf": string(conf)}))
	s.want(doctor.RowInitramfs, doctor.Warning, "does not have it")
	files["etc/aem/boot.conf"] = "AEM_MEDIUM=\"UUID=2\"\n"
	s.file("boot/initrd.img", s.image(files))
	s.want(doctor.RowInitramfs, doctor.Warning, "before the last aem-setup boot install")
	s.file("boot/initrd.img", "no archive")
	s.want(doctor.RowInitramfs, doctor.Unknown, "can't be told")
	// Xen's modules are a kernel, which is no archive, and its initramfs.
	files["etc/aem/boot.conf"] = string(conf)
	s.file("boot/xen.gz", "xen")
	s.file("boot/initrd.img", s.image(files))
	s.file("boot/grub/grub.cfg", "menuentry x { multiboot2 /xen.gz; module2 /vmlinuz; module2 --nounzip /initrd.img }\n")
	s.want(doctor.RowInitramfs, doctor.Good, "shows the proof")

	s = newInstalled(t)
	s.must(os.RemoveAll(filepath.Join(s.root, "usr/share/initramfs-tools")))
	s.want(doctor.RowInitramfs, doctor.Bad, "not known")
	s.file("usr/lib/initcpio/install/base", "")
	s.want(doctor.RowInitramfs, doctor.Bad, "mkinitcpio")
}

func TestRowOfTheClock(t *testing.T) {
	zone := func(d time.Duration) func(*installed) {
		return func(s *installed) {
			s.file("sys/class/rtc/rtc0/since_epoch", fmt.Sprintln(noon.Add(d).Unix()))
		}
	}
	for _, test := range []struct {
		name   string
		change func(*installed)
		state  doctor.State
		word   string
	}{
		{"1970", func(s *installed) { s.o.Now = time.Unix(100, 0) }, doctor.Bad, "1970"},
		{"2099", func(s *installed) { s.o.Now = noon.AddDate(73, 0, 0) }, doctor.Bad, "2099"},
		{"before the last change of /boot", func(s *installed) { s.o.Now = noon.Add(-2 * time.Hour) }, doctor.Warning, "in /boot was changed"},
		{"RTC in local time", zone(2 * time.Hour), doctor.Warning, "time zone"},
		{"RTC in another local time", zone(-5*time.Hour - 45*time.Minute), doctor.Warning, "time zone"},
		{"RTC off", zone(-7 * time.Minute), doctor.Warning, "off by -7m0s"},
		{"RTC days off", zone(48 * time.Hour), doctor.Warning, "off by 48h"},
		{"no RTC", func(s *installed) { s.must(os.Remove(filepath.Join(s.root, "sys/class/rtc/rtc0/since_epoch"))) }, doctor.Good, "2026"},
		{"a TPM without a clock", func(s *installed) { s.o.Clock = nil }, doctor.Good, "2026"},
		{"a TPM that does not answer", func(s *installed) {
			s.o.Clock = func() (tpm2.Clock, error) { return tpm2.Clock{}, errors.New("silence") }
		}, doctor.Warning, "silence"},
		{"a TPM cleared while the system runs", func(s *installed) {
			s.o.Clock = func() (tpm2.Clock, error) { return tpm2.Clock{Milliseconds: 60_000}, nil }
		}, doctor.Warning, "the TPM was cleared"},
		{"a TPM whose owner advanced its clock", func(s *installed) {
			s.o.Clock = func() (tpm2.Clock, error) { return tpm2.Clock{Milliseconds: 1 << 63}, nil }
		}, doctor.Good, "days"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newInstalled(t)
			s.must(os.Chtimes(filepath.Join(s.root, "boot/grub"), noon, noon))
			test.change(s)
			s.want(doctor.RowClock, test.state, test.word)
		})
	}
}

// What stands in the way of setting AEM up decides, and nothing else does.
func TestJudgeSetUp(t *testing.T) {
	all := func(state doctor.State, but string, other doctor.State) []doctor.Record {
		var list []doctor.Record
		for _, name := range []string{doctor.RowTPM, doctor.RowTPMOn, doctor.RowBanks, doctor.RowEncryption, doctor.RowInitramfs, doctor.RowMachine, doctor.RowClock} {
			r := doctor.Record{Name: name, State: state, Required: true}
			if name == but {
				r.State = other
			}
			list = append(list, r)
		}
		return list
	}
	for _, test := range []struct {
		but   string
		other doctor.State
		want  doctor.State
	}{
		{"", 0, doctor.Good},
		{doctor.RowMachine, doctor.Bad, doctor.Good},
		{doctor.RowClock, doctor.Bad, doctor.Good},
		{doctor.RowEncryption, doctor.Warning, doctor.Good},
		{doctor.RowEncryption, doctor.Bad, doctor.Bad},
		{doctor.RowTPM, doctor.Bad, doctor.Bad},
		{doctor.RowInitramfs, doctor.Unknown, doctor.Unknown},
	} {
		v := doctor.JudgeSetUp(all(doctor.Good, test.but, test.other))
		if v.State != test.want || test.want != doctor.Good && !strings.Contains(v.Text, test.but) {
			t.Errorf("%s %s: %+v", test.but, test.other, v)
		}
	}
	if v := doctor.JudgeSetUp(nil); v.State != doctor.Unknown {
		t.Errorf("of nothing it is said %+v", v)
	}
}
