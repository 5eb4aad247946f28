package dist_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// launched is the log of a launch of what was built by hand.
func launched(t *testing.T, p drtm.Platform, target drtm.Target) *eventlog.Log {
	t.Helper()
	ms, err := target.Measurements()
	if err != nil {
		t.Fatal(err)
	}
	log, err := drtm.BuildLog(p, tpm.V20, []tpm.Alg{tpm.SHA1, tpm.SHA256}, ms)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// pcrs are the values that a log leads to.
func pcrs(f *drtm.Forecast) map[string]string {
	out := map[string]string{}
	for _, b := range f.PCRs() {
		for _, r := range []tpm.PCR{17, 18} {
			out[fmt.Sprint(b.Alg, r)] = b.Values[r].String()
		}
	}
	return out
}

// The next launch of a generated entry is predicted: after an update of the kernel, the
// launch of the new files, put together by hand, leads to the predicted PCRs. Of the
// loaders that are offered, the one that made the good launch is taken.
func TestGeneratedEntriesArePredicted(t *testing.T) {
	const (
		linux  = "BOOT_IMAGE=/vmlinuz-6.1.0-37-amd64 " + linuxWords
		module = "placeholder " + linuxWords
		xen    = "placeholder dom0_mem=2G,max:2G"
	)
	for _, test := range []struct {
		name, id, cpu string
		platform      drtm.Platform
		launch        func(kernel, initrd, loader []byte) drtm.Target
	}{
		{"Linux, TXT", "aem-launch-linux", intel, drtm.TXT, func(kernel, initrd, loader []byte) drtm.Target {
			return drtm.LinuxLaunch{Platform: drtm.TXT, Version: tpm.V20, Algs: []tpm.Alg{tpm.SHA1, tpm.SHA256}, Loader: loader, Kernel: kernel, Initrd: initrd, CommandLine: linux}
		}},
		{"Linux, SKINIT", "aem-launch-linux", amd, drtm.SKINIT, func(kernel, initrd, loader []byte) drtm.Target {
			return drtm.LinuxLaunch{Platform: drtm.SKINIT, Version: tpm.V20, Algs: []tpm.Alg{tpm.SHA1, tpm.SHA256}, Loader: loader, Kernel: kernel, Initrd: initrd, CommandLine: linux}
		}},
		{"Xen, TXT", "aem-launch-xen", intel, drtm.TXT, func(kernel, initrd, loader []byte) drtm.Target {
			return drtm.XenLaunch{Platform: drtm.TXT, Version: tpm.V20, Algs: []tpm.Alg{tpm.SHA1, tpm.SHA256}, Loader: loader, Xen: []byte("xen"), CommandLine: xen,
				Modules: []drtm.Module{{Content: kernel, Line: module}, {Content: initrd}}}
		}},
		{"Xen, SKINIT", "aem-launch-xen", amd, drtm.SKINIT, func(kernel, initrd, loader []byte) drtm.Target {
			return drtm.XenLaunch{Platform: drtm.SKINIT, Version: tpm.V20, Algs: []tpm.Alg{tpm.SHA1, tpm.SHA256}, Loader: loader, Xen: []byte("xen"), CommandLine: xen,
				Modules: []drtm.Module{{Content: kernel, Line: module}, {Content: initrd}}}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			sample := testbed.SampleLaunch(test.platform, tpm.V20)
			m := newMachine(t, test.cpu, false).typical()
			m.remove("boot/intel-ucode.img")
			m.file("boot/vmlinuz-6.1.0-37-amd64", string(sample.Kernel))
			m.file("boot/initrd.img-6.1.0-37-amd64", string(sample.Initrd))
			if test.platform == drtm.SKINIT {
				m.file("boot/skl.bin", string(sample.Loader))
			} else {
				m.file("boot"+sinits[1], string(sample.Loader)) // the second that is offered
			}
			config, _ := m.script()
			config = "function load_video { true; }\nmenuentry_id_option=--id\n" + config

			good := launched(t, test.platform, test.launch(sample.Kernel, sample.Initrd, sample.Loader))
			boot := func() *drtm.Boot {
				menu := m.menu(config)
				b, err := aem.BootOf(menu, m.find(menu, test.id), good)
				m.must(err)
				return b
			}
			was := boot()
			if !slices.Equal(was.Loader, sample.Loader) {
				t.Errorf("the loader is taken to be %q", was.Loader)
			}
			// The sizes stay: what GRUB tells Xen holds them, and can't be computed anew.
			kernel, initrd := testbed.BzImage("newer!"), []byte("AN INITRAMFS")
			m.file("boot/vmlinuz-6.1.0-37-amd64", string(kernel))
			m.file("boot/initrd.img-6.1.0-37-amd64", string(initrd))
			next, err := aem.Predict(&aem.LaunchLog{Log: good}, was, boot(), nil)
			m.must(err)
			actual := &drtm.Forecast{Log: launched(t, test.platform, test.launch(kernel, initrd, sample.Loader))}
			same(t, "PCRs", pcrs(actual), pcrs(next))
			if slices.Equal(kernel, sample.Kernel) || len(pcrs(next)) != 4 {
				t.Error("nothing was compared")
			}
		})
	}
}

// Xen started as an EFI program names its files elsewhere, and that is said.
func TestAnEntryOfXenByEFIIsNotGuessedAt(t *testing.T) {
	m := newMachine(t, amd, true).typical()
	m.file("boot/efi/EFI/qubes/xen.efi", "xen")
	m.file("boot/efi/EFI/qubes/xen.cfg", "[global]\n")
	config, _ := m.script()
	menu := m.menu("function load_video { true; }\nmenuentry_id_option=--id\n" + config)
	if _, err := aem.BootOf(menu, m.find(menu, "aem-launch-xen"), nil); !errors.Is(err, aem.ErrNotPossible) {
		t.Errorf("%v", err)
	}
}
