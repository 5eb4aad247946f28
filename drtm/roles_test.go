package drtm_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// What Roles tells from positions must be what the launch meant.
func TestRolesOfALaunch(t *testing.T) {
	each(t, func(t *testing.T, p drtm.Platform, v tpm.Version) {
		for name, change := range map[string]func(*drtm.LinuxLaunch){
			"whole":             func(*drtm.LinuxLaunch) {},
			"without initramfs": func(l *drtm.LinuxLaunch) { l.Initrd = nil },
		} {
			l := launch(p, v)
			change(&l)
			var want []drtm.Role
			for _, m := range measurements(t, l) {
				want = append(want, m.Role)
			}
			if diff := cmp.Diff(want, drtm.Roles(written(t, l))); diff != "" {
				t.Errorf("%s (-want +got)\n%s", name, diff)
			}
		}
	})
}

// The text of an event is not measured: whoever changes it changes no role.
func TestTextsDoNotMatter(t *testing.T) {
	log := written(t, launch(drtm.SKINIT, tpm.V20))
	want := drtm.Roles(log)
	for i := range log.Events {
		log.Events[i].Data = []byte("Measured Kernel initrd")
	}
	if diff := cmp.Diff(want, drtm.Roles(log)); diff != "" {
		t.Errorf("with other texts (-want +got)\n%s", diff)
	}
}

func TestRolesInLogsOfRealMachines(t *testing.T) {
	sinit := []drtm.Role{
		drtm.RoleLoader, drtm.RoleBIOSACM, drtm.RoleSCRTM, drtm.RolePolicy, drtm.RolePolicy,
		drtm.RoleSTM, drtm.RoleCapabilities, drtm.RoleKernel, drtm.RoleNVInfo,
		drtm.RoleSINITKey, drtm.RoleSCRTM, drtm.RoleCapabilities, drtm.RolePolicy, drtm.RolePolicy, drtm.RoleNVInfo,
	}
	const mle = 7
	launched := func(r drtm.Role, more ...drtm.Role) []drtm.Role {
		l := append(append([]drtm.Role(nil), sinit...), more...)
		l[mle] = r
		return l
	}
	xen := launched(drtm.RoleHypervisor,
		drtm.RoleBootInfo, drtm.RoleSLRT, drtm.RoleOSMLE, drtm.RoleKernel, drtm.RoleInitrd)
	for name, want := range map[string][]drtm.Role{
		"drtm/drtmtests-linux-v0.5.3-rc1.bin": {
			drtm.RoleLoader, drtm.RoleEntryOffset, drtm.RoleKernel, drtm.RoleMarker,
			drtm.RoleSLRT, drtm.RoleBootParams, drtm.RoleCommandLine, drtm.RoleMarker,
		},
		// Its second event is SINIT's mapping.
		"drtm-reconstructed/3mdeb-aem3-hp-elitedesk-800g2-txt-xen.bin": append([]drtm.Role{xen[0], drtm.RoleMarker}, xen[1:]...),
		"drtm/intelsecl-txt-logs.bin": launched(drtm.RoleTboot,
			drtm.RoleTbootPolicy, drtm.RoleTbootPolicy, drtm.RoleKernel, drtm.RoleInitrd),
		"drtm-synthetic/skl-tpm12.bin": {
			drtm.RoleLoader, drtm.RoleEntryOffset, drtm.RoleHypervisor, drtm.RoleBootInfo, drtm.RoleKernel, drtm.RoleInitrd,
		},
	} {
		log, _ := corpusLog(t, name)
		if diff := cmp.Diff(want, drtm.Roles(log)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}

// xen.efi measures each module's text into PCR 18 and the module into PCR 17.
func TestRolesOfXenStartedAsAnEFIProgram(t *testing.T) {
	full := written(t, launch(drtm.SKINIT, tpm.V20))
	log := *full
	log.Events = full.Events[:3:3]
	for _, p := range []tpm.PCR{18, 18, 18, 17, 18, 17} {
		log.Events = append(log.Events, eventlog.Event{PCR: p, Type: eventlog.Slaunch, Digests: full.Events[0].Digests})
	}
	want := []drtm.Role{
		drtm.RoleLoader, drtm.RoleEntryOffset, drtm.RoleHypervisor, drtm.RoleSLRT, drtm.RoleCommandLine,
		drtm.RoleModuleLine, drtm.RoleKernel, drtm.RoleModuleLine, drtm.RoleInitrd,
	}
	if diff := cmp.Diff(want, drtm.Roles(&log)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Where the firmware adds events in the middle, what stands there is not guessed.
func TestRolesThatCannotBeTold(t *testing.T) {
	full := written(t, launch(drtm.TXT, tpm.V20))
	log := *full
	const firstOfLinux = 16
	log.Events = append(full.Events[:firstOfLinux:firstOfLinux], full.Events[firstOfLinux])
	log.Events = append(log.Events, full.Events[firstOfLinux:]...)
	want := []drtm.Role{drtm.RoleMarker, drtm.RoleSLRT, drtm.RoleBootParams, drtm.RoleUnknown, drtm.RoleUnknown, drtm.RoleOSMLE, drtm.RoleInitrd, drtm.RoleMarker}
	if diff := cmp.Diff(want, drtm.Roles(&log)[firstOfLinux-1:]); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestRolesOfNothing(t *testing.T) {
	if r := drtm.Roles(nil); len(r) != 0 {
		t.Errorf("roles without a log: %v", r)
	}
	if r := drtm.Roles(&eventlog.Log{}); len(r) != 0 {
		t.Errorf("roles of an empty log: %v", r)
	}
}
