package xenbed_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/internal/xenbed"
)

const (
	oneTwo  = "12111111-2222-3333-4444-555555555501"
	twoZero = "20111111-2222-3333-4444-555555555502"
	another = "20111111-2222-3333-4444-555555555503"
	refused = "20111111-2222-3333-4444-5555555555ee"
)

func helper(args ...string) testbed.Step {
	return testbed.Run(append([]string{xenbed.Helper}, args...)...)
}

func vtpmLine(uuid string) string { return `vtpm=["backend=0,uuid=` + uuid + `"]` }

// Real Xen, its toolstack and Debian's frontend: what the tests in memory take for granted
// of them is what they do.
func TestGuestsOnRealXen(t *testing.T) {
	testbed.Need(t, "qemu-system-x86_64", "swtpm")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dom0, err := xenbed.Dom0()
	must(err)
	state := t.TempDir()
	must(testbed.MakeEK12(state))
	dom0.CopyFile("vtpm/"+oneTwo+"/tpm-00.permall", 0o600, filepath.Join(state, "tpm-00.permall"))
	use12, use20 := helper("tpm", "1.2", "/dev/tpm0"), helper("tpm", "2.0", "/dev/tpm0")

	pv, err := xenbed.NewGuest(
		use12,
		helper("rebind", "vtpm", "vtpm-0"), use12,
		helper("await", "restarted"), use12,
		helper("await", "attached"), helper("tpm", "2.0", "/dev/tpm1"),
		helper("await", "reboot"), testbed.Step{End: "reset"},
	)
	must(err)
	pv.Load = []string{"xen_tpmfront"}
	must(xenbed.AddGuest(dom0, "pv", `type="pv"`+"\n"+vtpmLine(oneTwo), pv))
	pvh, err := xenbed.NewGuest(use20, helper("await", "never"))
	must(err)
	pvh.Load = []string{"xen_tpmfront"}
	must(xenbed.AddGuest(dom0, "pvh", `type="pvh"`+"\n"+`tsc_mode="native"`+"\n"+vtpmLine(twoZero), pvh))
	none, err := xenbed.NewGuest()
	must(err)
	must(xenbed.AddGuest(dom0, "none", `type="pv"`+"\n"+vtpmLine(refused), none))

	// It says what it waits for, and when it gives up.
	xl := func(args ...string) testbed.Step {
		return testbed.Run(append([]string{"/bin/xl", "-vvv"}, args...)...)
	}
	dom0.Steps = append(dom0.Steps,
		use20, // the machine's own
		helper("start", "manager", xenbed.Helper, "manager"),
		xl("create", xenbed.GuestConfig("pv")),
		xenbed.Expect("pv", `TPM 1.2 .*random`), xenbed.Expect("pv", `TPM 1.2 .*random`),
		helper("kill", "manager"),
		helper("start", "manager", xenbed.Helper, "manager", "/dev/xen/xenbus"),
		helper("tell", "pv", "restarted"), xenbed.Expect("pv", `TPM 1.2 .*random`),
		xl("vtpm-attach", "pv", "backend=0", "uuid="+another),
		helper("tell", "pv", "attached"), xenbed.Expect("pv", `TPM 2.0 .*random`),
		xl("vtpm-detach", "pv", "1"),
		xl("create", xenbed.GuestConfig("none")),
		testbed.Run("/bin/xenstore-ls", "error"), testbed.Run("/bin/xenstore-list", "backend/vtpm"),
		xl("create", xenbed.GuestConfig("pvh")),
		xenbed.Expect("pvh", `TPM 2.0 .*random`),
		xl("destroy", "pvh"),
		helper("tell", "pv", "reboot"), xenbed.Expect("pv", `GUEST end reset`), xenbed.Expect("pv", `TPM 1.2 .*random`),
		xl("destroy", "pv"),
		testbed.Run("/bin/xenstore-list", "backend/vtpm"),
		xenbed.Consoles(),
	)
	machine := xenbed.NewMachine(t, dom0)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	expect := func(patterns ...string) (groups []string) {
		t.Helper()
		for _, p := range patterns {
			// What the helper could not do is the end.
			if groups, err = machine.Expect(ctx, p+`|xenguest \w+: [^\n]*`); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(groups[0], "xenguest") {
				t.Fatalf("before %q: %s", p, groups[0])
			}
		}
		return groups
	}
	// ended reads all that a command of xl's printed, and how it ended. The toolstack waits for a backend's
	// state for ten seconds and goes on without it, which mostly looks the same: it must not come to that.
	ended := func(command, code, waited string) {
		t.Helper()
		command = `/bin/xl -vvv ` + command + `[^\n]*\n`
		all := expect(`(?s)GUEST start ` + command + `.*?GUEST exit ` + code + ` ` + command)[0]
		if !strings.Contains(all, waited) || strings.Contains(all, "timed out") {
			t.Errorf("want that it waited so: %q, and did not give up:\n%s", waited, all)
		}
	}
	birth := func(uuid, late, again string) string {
		t.Helper()
		return expect(`ATTACH.* uuid=` + uuid + ` late=` + late + ` birth=(\S+) again=` + again)[1]
	}

	expect(`TPM 2.0 /dev/tpm0: random`)
	expect(`MANAGER serves`)
	first := birth(oneTwo, "false", "false")
	expect(`GUEST exit 0 /bin/xl -vvv create .*pv.cfg`)
	expect(`CLOSE`, `pv\| TPM 1.2`) // the driver let go, and came back
	expect(`MANAGER serves`)        // and the manager killed
	// It runs, so it counts as late: only a keeper that still has its vTPM knows better.
	if again := birth(oneTwo, "true", "true"); again != first {
		t.Errorf("the guest is %s, and was %s before the manager was killed", again, first)
	}
	expect(`pv\| TPM 1.2`)
	birth(another, "true", "false") // attached to a guest that runs
	expect(`pv\| TPM 2.0`)
	ended("vtpm-detach", "0", "wanted state 6 ok")
	ended("create .*none.cfg", "3", "wanted state 2 but it was removed") // the refusal
	expect(`error = "the guest gets no vTPM: its state was altered"`)
	expect(`start /bin/xenstore-list backend/vtpm\s+1\s+GUEST exit 0`) // and none of domain 2
	birth(twoZero, "false", "false")
	expect(`pvh\| TPM 2.0`)
	ended("destroy pvh", "0", "wanted state 6 ok")
	if again := birth(oneTwo, "false", "false"); again == first {
		t.Errorf("after its reboot the guest is %s still", again)
	}
	expect(`pv\| TPM 1.2`)
	ended("destroy pv", "0", "wanted state 6 ok")
	expect(`GUEST exit 1 /bin/xenstore-list`) // there is nothing left to list
	must(machine.Wait(ctx))
}
