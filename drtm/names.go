package drtm

import (
	"slices"

	"github.com/antievilmaid/aem/eventlog"
)

// What a launch and the stage that it starts both have is told apart for a person.
var (
	stageOneNames = map[Role]string{
		RoleKernel: "stage 1's kernel", RoleInitrd: "stage 1's initramfs",
		RoleCommandLine: "stage 1's kernel command line", RoleBootParams: "stage 1's kernel boot parameters",
	}
	dom0Names = map[Role]string{
		RoleKernel: "dom0's kernel", RoleInitrd: "dom0's initramfs", RoleCommandLine: "hypervisor's command line",
	}
)

// dom0Line is the name of the line of Xen's first module.
const dom0Line = "dom0's kernel command line"

// Names names what each event of a log measured, as [Roles] does, for a person: where a
// launched Linux started a stage, its initramfs has another name than the stage's.
func Names(log *eventlog.Log) []string {
	roles := Roles(log)
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = r.String()
	}
	own, code := stageEvents(log, roles)
	if own == nil {
		return names
	}
	xen, line := slices.Contains(code, RoleHypervisor), false
	for i, r := range roles {
		name := ""
		switch {
		case !own[i]:
			name = stageOneNames[r]
		case xen && r == RoleModuleLine && !line:
			name, line = dom0Line, true
		case xen:
			name = dom0Names[r]
		}
		if name != "" {
			names[i] = name
		}
	}
	return names
}
