package bootentry_test

import (
	"testing"

	"github.com/antievilmaid/aem/internal/bootentry"
)

const machineID = "6f1d2c3b4a5968778695a4b3c2d1e0f9"

func fragment(version, options string) string {
	return "title Fedora Linux (" + version + ") 40 (Forty)\nversion " + version + "\nlinux /vmlinuz-" + version +
		"\ninitrd /initramfs-" + version + ".img\noptions " + options +
		"\ngrub_users $grub_users\ngrub_arg --unrestricted\ngrub_class fedora\n"
}

func fedora(t *testing.T, grubenv string, change func(map[string]string)) bootentry.Options {
	t.Helper()
	files := with(map[string]string{
		"grub2/grub.cfg": sample(t, "fedora.cfg"),
		"loader/entries/" + machineID + "-6.8.9-300.fc40.x86_64.conf":  fragment("6.8.9-300.fc40.x86_64", "$kernelopts $tuned_params"),
		"loader/entries/" + machineID + "-6.8.10-300.fc40.x86_64.conf": fragment("6.8.10-300.fc40.x86_64", "root=UUID=1 ro rhgb quiet"),
		"loader/entries/" + machineID + "-0-rescue.conf":               fragment("0-rescue", "root=UUID=1 ro"),
		"loader/entries/README":                                        "not an entry\n",
	}, "vmlinuz-6.8.9-300.fc40.x86_64 initramfs-6.8.9-300.fc40.x86_64.img vmlinuz-6.8.10-300.fc40.x86_64 "+
		"initramfs-6.8.10-300.fc40.x86_64.img vmlinuz-0-rescue initramfs-0-rescue.img")
	if grubenv != "" {
		files["grub2/grubenv"] = envBlock(grubenv)
	}
	if change != nil {
		change(files)
	}
	f := boot(files)
	f.Devices = []string{"hd0,gpt2"}
	return bootentry.Options{Platform: "efi", Filesystems: []bootentry.Filesystem{f}}
}

// The newest version comes first, and 6.8.10 is newer than 6.8.9.
func TestFedoraOrder(t *testing.T) {
	m := read(t, fedora(t, "", nil))
	var got []string
	for _, e := range m.Entries {
		got = append(got, e.ID)
	}
	same(t, "menu", []string{machineID + "-6.8.10-300.fc40.x86_64", machineID + "-6.8.9-300.fc40.x86_64", machineID + "-0-rescue", "uefi-firmware"}, got)
}

func TestFedoraCommandLine(t *testing.T) {
	e, err := read(t, fedora(t, "", nil)).Find("0")
	if err != nil {
		t.Fatal(err)
	}
	if e.Err != nil {
		t.Fatal(e.Err)
	}
	same(t, "command line", "BOOT_IMAGE=(hd0,gpt2)/vmlinuz-6.8.10-300.fc40.x86_64 root=UUID=1 ro rhgb quiet", e.Kernel.Line)
	same(t, "kernel", "/vmlinuz-6.8.10-300.fc40.x86_64", e.Kernel.Path)
	same(t, "initrds", []module{{"/initramfs-6.8.10-300.fc40.x86_64.img", "fs-uuid 0c7d2c5c-2222-4222-8222-22222222boot", ""}}, modules(e.Initrds...))
}

// GRUB puts its own name of the disk into the command line. It can't be told from
// the configuration.
func TestFedoraNeedsTheDisksName(t *testing.T) {
	o := fedora(t, "", nil)
	o.Filesystems[0].Devices = nil
	refused(t, read(t, o).Entries[0].Err, "name of the disk")
}

func TestFedoraKernelopts(t *testing.T) {
	for _, test := range []struct{ name, env, want string }{
		{"from the environment block", "kernelopts=root=/dev/mapper/f ro \n", "root=/dev/mapper/f ro"},
		{"fallback of the configuration", "", "root=UUID=fallback ro"},
		{"with tuned", "kernelopts=root=/dev/x\ntuned_params=skew_tick=1\n", "root=/dev/x skew_tick=1"},
		{"quoted", `kernelopts=root=/dev/x "dyndbg=file a +p"` + "\n", `root=/dev/x "dyndbg=file a +p"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := read(t, fedora(t, test.env, nil)).Entries[1]
			if e.Err != nil {
				t.Fatal(e.Err)
			}
			same(t, "command line", "BOOT_IMAGE=(hd0,gpt2)/vmlinuz-6.8.9-300.fc40.x86_64 "+test.want, e.Kernel.Line)
		})
	}
}

// An identifier that begins with digits is a number for GRUB's own code and an
// identifier for Red Hat's.
func TestFedoraSavedEntry(t *testing.T) {
	o := fedora(t, "saved_entry="+machineID+"-0-rescue\n", nil)
	if m := read(t, o); m.DefaultErr == nil {
		t.Error("the default is told without knowing whose GRUB it is")
	}
	o.Dialect = bootentry.RedHat
	e, err := read(t, o).Find("default")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "default", machineID+"-0-rescue", e.ID)
}

func TestFedoraFallbackCounting(t *testing.T) {
	o := fedora(t, "boot_success=0\nboot_counter=0\nsaved_entry=0\n", nil)
	e, err := read(t, o).Find("default")
	if err != nil {
		t.Fatal(err)
	}
	same(t, "default", "1", e.Number)
}

func TestFragmentsThatAreRefused(t *testing.T) {
	for _, test := range []struct {
		name, file, content, word string
	}{
		{"unified kernel image", "EFI/Linux/x.efi", "MZ", "x.efi"},
		{"EFI program", "loader/entries/z.conf", "title z\nefi /z.efi\n", "EFI program"},
		{"nothing", "loader/entries/z.conf", "title z\n", "no key linux"},
		{"device tree", "loader/entries/z.conf", "linux /k\ndevicetree /d\n", "device tree"},
		{"as new as another", "loader/entries/" + machineID + "-0_rescue.conf", "linux /k\n", ""},
		{"same version", "loader/entries/" + machineID + "-0-rescue..conf", "linux /k\n", "comes first"},
		{"twice .conf", "loader/entries/a.conf.b.conf", "linux /k\n", "hang"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := bootentry.Read(fedora(t, "", func(files map[string]string) { files[test.file] = test.content }))
			if test.word == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			refused(t, err, test.word)
		})
	}
}

// As in GRUB, an empty line ends a file.
func TestAFragmentEndsAtAnEmptyLine(t *testing.T) {
	m := read(t, fedora(t, "", func(files map[string]string) {
		files["loader/entries/"+machineID+"-0-rescue.conf"] = "title T\n# a comment\n  linux   /vmlinuz-0-rescue\n\noptions lost\n"
	}))
	if m.Entries[2].Err != nil {
		t.Fatal(m.Entries[2].Err)
	}
	same(t, "command line", "BOOT_IMAGE=(hd0,gpt2)/vmlinuz-0-rescue", m.Entries[2].Kernel.Line)
}

// The order is rpm's, for the name, the version and the release in turn.
func TestOrderOfVersions(t *testing.T) {
	for _, test := range []struct{ newer, older string }{
		{"a-1.10-1", "a-1.9-1"}, {"a-1.0-1", "a-1.0~rc1-1"}, {"a-1.0-2", "a-1.0-1"}, {"b-1-1", "a-2-2"}, {"a-1.1-1", "a-1.a-1"},
		{"a-1.0.1-1", "a-1.0-1"}, {"a-010-1", "a-9-1"}, {"a-1.0+git-1", "a-1.0-1"}, {"a-1.0.1-1", "a-1.0+git-1"}, {"a-1.b-1", "a-1.a-1"},
		{"a-2-1", "a"}, {"a-1.0~b-1", "a-1.0~a-1"}, {"a-1.0+b-1", "a-1.0+a-1"},
	} {
		m := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{boot(map[string]string{"grub2/grub.cfg": "blscfg\n",
			"loader/entries/" + test.newer + ".conf": "linux /k\n", "loader/entries/" + test.older + ".conf": "linux /k\n"})}})
		same(t, "first", test.newer, m.Entries[0].ID)
	}
	for _, other := range []string{"a-7-01", "a-7-1.", "a.-7-1"} {
		_, err := bootentry.Read(bootentry.Options{Filesystems: []bootentry.Filesystem{boot(map[string]string{"grub2/grub.cfg": "blscfg\n",
			"loader/entries/a-7-1.conf": "linux /k\n", "loader/entries/" + other + ".conf": "linux /k\n"})}})
		refused(t, err, "comes first")
	}
}
