package drtm

import "fmt"

// Role is what an event measured. It is told from the event's position and
// type, never from its text: Xen gives the same text to every module, and a
// text isn't measured at all.
type Role uint8

// The roles, in about the order in which a launch measures them.
const (
	RoleUnknown Role = iota
	// RoleLoader is what the CPU itself hashed: the Secure Kernel Loader, or
	// Intel's SINIT module.
	RoleLoader
	// RoleMarker brackets a part of the log and measures nothing.
	RoleMarker
	// RoleBIOSACM is the firmware's own module, of which SINIT takes the identity.
	RoleBIOSACM
	// RoleSCRTM is whether the CPU measured the firmware at its start.
	RoleSCRTM
	// RoleSTM is the monitor for system management mode.
	RoleSTM
	// RolePolicy is Intel's launch control policy, with its control word and
	// its authorities.
	RolePolicy
	// RoleCapabilities is how SINIT was told to behave.
	RoleCapabilities
	// RoleNVInfo is the public part of the NV indices that hold the policy.
	RoleNVInfo
	// RoleSINITKey is the key that signed SINIT.
	RoleSINITKey
	// RoleBootGuard is what Intel Boot Guard measured of the firmware.
	RoleBootGuard
	// RoleEntryOffset is where in the launched kernel the loader jumps to.
	RoleEntryOffset
	// RoleKernel is the kernel, or on a Xen machine the kernel of dom0.
	RoleKernel
	// RoleHypervisor is Xen.
	RoleHypervisor
	// RoleTboot is Intel's tboot, launched in place of a kernel.
	RoleTboot
	// RoleTbootPolicy is the policy that tboot enforced.
	RoleTbootPolicy
	// RoleInitrd is the initramfs.
	RoleInitrd
	// RoleCommandLine is the command line of the kernel or of the hypervisor.
	RoleCommandLine
	// RoleBootParams is the kernel's setup header, as the boot loader handed it over.
	RoleBootParams
	// RoleBootInfo is the Multiboot 2 information that Xen was started with.
	RoleBootInfo
	// RoleModule is a further module that Xen was given.
	RoleModule
	// RoleModuleLine is the text that goes with a module: a command line.
	RoleModuleLine
	// RoleSLRT is the platform's part of the secure launch resource table.
	RoleSLRT
	// RoleOSMLE is the data that the boot loader left for the launched kernel
	// in the TXT heap.
	RoleOSMLE
	// RoleStage is the outline of what a launched Linux starts in its own place.
	RoleStage
	// RoleFact is something of the machine that was measured with that.
	RoleFact
	// RolePolicyKey is the key that signs what a launched Linux may start.
	RolePolicyKey
	// RoleApproval is whether the policy so signed approved of that.
	RoleApproval
)

var roleNames = [...]string{
	RoleUnknown:      "something unknown",
	RoleLoader:       "launched image",
	RoleMarker:       "marker",
	RoleBIOSACM:      "firmware's ACM",
	RoleSCRTM:        "firmware measurement status",
	RoleSTM:          "system management monitor",
	RolePolicy:       "launch control policy",
	RoleCapabilities: "SINIT capabilities",
	RoleNVInfo:       "policy's NV indices",
	RoleSINITKey:     "SINIT signing key",
	RoleBootGuard:    "Boot Guard measurement",
	RoleEntryOffset:  "kernel entry point",
	RoleKernel:       "kernel",
	RoleHypervisor:   "hypervisor",
	RoleTboot:        "tboot",
	RoleTbootPolicy:  "tboot policy",
	RoleInitrd:       "initramfs",
	RoleCommandLine:  "kernel command line",
	RoleBootParams:   "kernel boot parameters",
	RoleBootInfo:     "multiboot information",
	RoleModule:       "boot module",
	RoleModuleLine:   "boot module's command line",
	RoleSLRT:         "secure launch resource table",
	RoleOSMLE:        "TXT OS-to-MLE data",
	RoleStage:        "next stage's outline",
	RoleFact:         "fact about the machine",
	RolePolicyKey:    "launch policy's key",
	RoleApproval:     "launch policy's answer",
}

// String names the thing for a person: "initramfs", "kernel command line".
func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return fmt.Sprintf("role %d", uint8(r))
}
