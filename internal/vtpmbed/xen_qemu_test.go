package vtpmbed_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/internal/xenbed"
)

const (
	web  = "20111111-2222-3333-4444-555555555502"
	mail = "20111111-2222-3333-4444-555555555503"
)

// On real Xen, plain xl create starts what was measured where our program is the boot loader, and vtpmctl run starts a guest of sealed files through xl: it counts as measured, also when xl
// builds it again after its reboot, and plain xl create of it is refused; vtpmctl stop ends guest and vTPM.
func TestRunOnRealXen(t *testing.T) {
	testbed.Need(t, "qemu-system-x86_64", "swtpm")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dom0, err := xenbed.Dom0()
	must(err)
	for _, p := range []string{"cmd/vtpmd", "cmd/vtpmctl", "internal/vtpmbed/indom0"} {
		must(dom0.Program("bin/"+p[strings.LastIndexByte(p, '/')+1:], "./"+p))
	}
	dom0.Dir("var/lib/aem", 0o700)
	dom0.Symlink("usr/lib/vtpmd/vtpm-bootloader", "/bin/indom0")
	dom0.Symlink("etc/xen/scripts/block", "/bin/indom0")
	dom0.Load = append(dom0.Load, "xen_blkback", "brd") // libxl wants a disk where there is a boot loader
	guest, err := xenbed.NewGuest(
		testbed.Run(xenbed.Helper, "tpm", "2.0", "/dev/tpm0"),
		testbed.Run(xenbed.Helper, "await", "reboot"), testbed.Step{End: "reset"},
	)
	must(err)
	guest.Load = []string{"xen_tpmfront"}
	lines := `type="pvh"` + "\n" + `tsc_mode="native"` + "\n"
	must(xenbed.AddGuest(dom0, "web", lines+`vtpm=["backend=0,uuid=`+web+`"]`, guest))
	cfg := xenbed.GuestConfig("web")
	loaded, err := xenbed.NewGuest(
		testbed.Run(xenbed.Helper, "tpm", "2.0", "/dev/tpm0"),
		testbed.Run(xenbed.Helper, "await", "reboot"), testbed.Step{End: "reset"},
	)
	must(err)
	loaded.Load = guest.Load
	must(xenbed.AddGuest(dom0, "mail", lines+`vtpm=["backend=0,uuid=`+mail+`"]
disk=["phy:/dev/ram0,xvda,w"]
bootloader="/usr/lib/vtpmd/vtpm-bootloader"
bootloader_args=["`+xenbed.GuestConfig("mail")+`"]`, loaded))
	ctl := func(args ...string) testbed.Step {
		return testbed.Run(append([]string{"/bin/vtpmctl"}, args...)...)
	}
	dom0.Steps = append(dom0.Steps,
		testbed.Run("/bin/indom0", "boot"),
		testbed.Run("/bin/vtpmd", "init", "--static-root"),
		testbed.Run(xenbed.Helper, "start", "vtpmd", "/bin/vtpmd"),
		testbed.Run("/bin/indom0", "await", "/run/vtpmd/admin.sock"),
		ctl("create", "--name", "web", "--uuid", web, "--only-measured"),
		ctl("doctor"),
		testbed.Run("/bin/xl", "create", "-q", cfg), // nobody measured it
		ctl("run", cfg),
		xenbed.Expect("web", `TPM 2.0 .*random`),
		ctl("show", "web"), ctl("log", "web"),
		testbed.Run(xenbed.Helper, "tell", "web", "reboot"),
		xenbed.Expect("web", `GUEST end reset`), xenbed.Expect("web", `TPM 2.0 .*random`),
		ctl("show", "web"),
		ctl("stop", "web", "--patience", "1s"),
		ctl("show", "web"),
		ctl("create", "--name", "mail", "--uuid", mail, "--only-measured"),
		testbed.Run("/bin/xl", "create", "-q", xenbed.GuestConfig("mail")),
		xenbed.Expect("mail", `TPM 2.0 .*random`),
		ctl("show", "mail"),
		testbed.Run(xenbed.Helper, "tell", "mail", "reboot"),
		xenbed.Expect("mail", `GUEST end reset`), xenbed.Expect("mail", `TPM 2.0 .*random`),
		ctl("show", "mail"),
		testbed.Run("/bin/xl", "destroy", "mail"),
		ctl("audit"),
	)
	machine := xenbed.NewMachine(t, dom0)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	for _, p := range []string{
		`The store [0-9a-f]+ was made`,
		`For xl: vtpm=`,
		`good +Xen `,
		`start /bin/xl create[^\n]*\s(?s:.*)GUEST exit 3`, // refused: nobody measured it
		`Started\.`,
		`web\| TPM 2.0`,
		`its start +measured`, `kernel /guests/vmlinux.gz`,
		`web\| TPM 2.0`,
		`its start +measured`,
		`Stopped\.`,
		`guest +none`,
		`mail\| TPM 2.0`,
		`its start +measured`,
		`mail\| TPM 2.0`,
		`its start +measured`,
		`refused  the guest xen:\d+ does not get the vTPM`,
	} {
		got, err := machine.Expect(ctx, p+`|xenguest \w+: [^\n]*|indom0: [^\n]*`)
		must(err)
		if strings.HasPrefix(got[0], "xenguest") || strings.HasPrefix(got[0], "indom0:") {
			t.Fatalf("before %q: %s", p, got[0])
		}
	}
	must(machine.Wait(ctx))
}
