package drtm

import (
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// Roles names what each event of a log measured, by position and type; the
// result is as long as log.Events. In a log that does not replay to the PCRs
// the roles are hearsay, as all else in it.
//
// Positions are counted within each PCR, because the order of events in
// different PCRs is not measured.
func Roles(log *eventlog.Log) []Role {
	if log == nil {
		return nil
	}
	roles := make([]Role, len(log.Events))
	rest := stageRoles(log, roles, platformRoles(log, roles))
	environmentRoles(log, roles, rest)
	return roles
}

// txtRoles are the types that SINIT uses, each for one purpose.
var txtRoles = map[eventlog.Type]Role{
	eventlog.TXTPCRMapping:         RoleMarker,
	eventlog.TXTHashStart:          RoleLoader,
	eventlog.TXTCombinedHash:       RolePolicy,
	eventlog.TXTMLEHash:            RoleKernel,
	eventlog.TXTBIOSACRegData:      RoleBIOSACM,
	eventlog.TXTCPUSCRTMStat:       RoleSCRTM,
	eventlog.TXTLCPControlHash:     RolePolicy,
	eventlog.TXTElementsHash:       RolePolicy,
	eventlog.TXTSTMHash:            RoleSTM,
	eventlog.TXTOSSINITDataCapHash: RoleCapabilities,
	eventlog.TXTSINITPubKeyHash:    RoleSINITKey,
	eventlog.TXTLCPHash:            RolePolicy,
	eventlog.TXTLCPDetailsHash:     RolePolicy,
	eventlog.TXTLCPAuthoritiesHash: RolePolicy,
	eventlog.TXTNVInfoHash:         RoleNVInfo,
	eventlog.TXTColdBootBIOSHash:   RoleBootGuard,
	eventlog.TXTKMHash:             RoleBootGuard,
	eventlog.TXTBPMHash:            RoleBootGuard,
	eventlog.TXTKMInfoHash:         RoleBootGuard,
	eventlog.TXTBPMInfoHash:        RoleBootGuard,
	eventlog.TXTBootPolHash:        RoleBootGuard,
}

// sklRoles are the loader's events, in the order in which they stand in PCR 17.
var sklRoles = []Role{RoleLoader, RoleEntryOffset, RoleKernel}

// platformRoles names the events of the CPU, of SINIT or of the Secure Kernel
// Loader, and returns the indices of those that belong to what was launched.
func platformRoles(log *eventlog.Log, roles []Role) (rest []int) {
	skl, seen := isSKL(log), 0
	for i, e := range log.Events {
		if r, ok := txtRoles[e.Type]; ok && !skl {
			roles[i] = r
			continue
		}
		if skl && e.Type == eventlog.Slaunch && e.PCR == tpm.PCRCode && seen < len(sklRoles) {
			roles[i] = sklRoles[seen]
			seen++
			continue
		}
		rest = append(rest, i)
	}
	return rest
}

// environment is who made the measurements that follow the platform's.
type environment struct {
	launched   Role   // what the platform measured as the kernel
	code, data []Role // the roles of PCR 17's and PCR 18's events, by position
	moreCode   Role   // of events in PCR 17 behind those
	moreData   Role
}

// environmentRoles names the events of the launched kernel or hypervisor.
func environmentRoles(log *eventlog.Log, roles []Role, rest []int) {
	var code, data []int
	linux, tboot := false, false
	for _, i := range rest {
		e := &log.Events[i]
		switch {
		case !e.Type.Extended():
			roles[i] = RoleMarker
			linux = linux || e.PCR == tpm.PCRCode
		case e.PCR == tpm.PCRCode && (e.Type == eventlog.Slaunch || e.Type == eventlog.TbootMeasurement):
			code = append(code, i)
			tboot = tboot || e.Type == eventlog.TbootMeasurement
		case e.PCR == tpm.PCRData && (e.Type == eventlog.Slaunch || e.Type == eventlog.TbootMeasurement):
			data = append(data, i)
		}
	}
	if len(code) == 0 && len(data) == 0 {
		return
	}
	var env environment
	switch {
	case tboot:
		env = tbootEnvironment()
	case linux:
		env = linuxEnvironment(isSKL(log), len(data))
	default:
		env = xenEnvironment(isSKL(log), len(code), len(data))
	}
	for i, r := range roles {
		if r == RoleKernel {
			roles[i] = env.launched
		}
	}
	assign(roles, code, env.code, env.moreCode)
	assign(roles, data, env.data, env.moreData)
}

func assign(roles []Role, events []int, known []Role, more Role) {
	for n, i := range events {
		roles[i] = more
		if n < len(known) {
			roles[i] = known[n]
		}
	}
}

func tbootEnvironment() environment {
	return environment{
		launched: RoleTboot,
		code:     []Role{RoleTbootPolicy, RoleKernel, RoleInitrd},
		data:     []Role{RoleTbootPolicy},
		moreCode: RoleModule,
	}
}

// linuxEnvironment is recognised by its markers, which Xen and tboot don't
// write. Where the firmware adds events of its own in the middle (setup_data,
// the EFI memory map), those and the command line can't be told apart by position.
func linuxEnvironment(skl bool, data int) environment {
	known := []Role{RoleSLRT, RoleBootParams, RoleCommandLine}
	if !skl {
		known = append(known, RoleOSMLE)
	}
	if data > len(known) {
		more := make([]Role, data)
		more[0], more[1] = RoleSLRT, RoleBootParams
		if !skl {
			more[data-1] = RoleOSMLE
		}
		known = more
	}
	return environment{launched: RoleKernel, code: []Role{RoleInitrd}, data: known}
}

// xenEnvironment tells Xen started by Multiboot 2 from xen.efi, which measures
// a command line with each module.
func xenEnvironment(skl bool, code, data int) environment {
	env := environment{
		launched: RoleHypervisor,
		code:     []Role{RoleKernel, RoleInitrd},
		moreCode: RoleModule,
	}
	switch {
	case !skl:
		env.data = []Role{RoleBootInfo, RoleSLRT, RoleOSMLE}
	case data == code+2:
		env.data = []Role{RoleSLRT, RoleCommandLine}
		env.moreData = RoleModuleLine
	default:
		env.data = []Role{RoleBootInfo}
	}
	return env
}

// isSKL reports whether the Secure Kernel Loader made the log, which its header
// says: it holds the log's address and size, as nobody else's does.
func isSKL(log *eventlog.Log) bool {
	const pointerSize = 20 // address, allocated, first and next
	return log.Format == eventlog.SKL12 ||
		log.Format == eventlog.CryptoAgile && len(log.VendorInfo) == pointerSize
}
