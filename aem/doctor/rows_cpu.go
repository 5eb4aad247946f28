package doctor

import "slices"

// machine asks whether this is a machine at all. A hypervisor gives its guests
// neither SENTER nor SKINIT.
func (x *exam) machine() finding {
	guest, known := x.hasFlag("hypervisor")
	switch {
	case x.Xen != nil && x.Xen.Host:
		return good("%s, under Xen %s", x.model(), x.Xen.Version)
	case x.Xen != nil:
		return bad("run this in dom0", "this is a guest of Xen, and guests can't be launched")
	case guest && x.Missing[fileXen] != "":
		return unknown("", "whether this is a virtual machine or Xen's dom0 is not known: %s", x.Missing[fileXen])
	case guest:
		return bad("run this on the machine itself", "this is a virtual machine, and those can't be launched")
	case !known:
		return unknown("", "whether this is a virtual machine is not known: %s", x.why(fileCPUInfo))
	}
	return good("%s", x.model())
}

// model is the machine's name, as far as the firmware tells it.
func (x *exam) model() string {
	f := x.Firmware
	name := "a machine that does not tell its model"
	if f.Maker+f.Model != "" {
		name = f.Maker + " " + f.Model
	}
	if f.BIOS != "" {
		name += ", firmware " + f.BIOS
	}
	if f.BIOSDate != "" {
		name += " of " + f.BIOSDate
	}
	return name
}

// cpuName is the CPU's name, for sentences.
func (x *exam) cpuName() string {
	if name := x.cpuField("model name"); name != "" {
		return name
	}
	return "this CPU"
}

// featureAdvice is for a CPU whose features nobody told.
func (x *exam) featureAdvice() (advice, reason string) {
	if x.Xen != nil {
		return "run this as root in dom0, where xl info works", x.why(fileXen)
	}
	return "", x.why(fileCPUInfo)
}

func (x *exam) smx() finding {
	smx, known := x.hasFeature("smx")
	vmx, _ := x.hasFeature("vmx")
	switch {
	case x.launched():
		return good("%s has executed SENTER in this boot", x.cpuName())
	case !known:
		advice, reason := x.featureAdvice()
		return unknown(advice, "whether the CPU has SMX is not known: %s", reason)
	case !smx:
		return bad("TXT needs a CPU with vPro or a Xeon; look the model up at Intel", "%s has no SMX, without which there is no TXT", x.cpuName())
	case !vmx:
		// Linux hides VMX where the firmware has it locked off.
		return bad("switch virtualisation (VT-x) on in the firmware's setup", "%s has SMX, but its VMX is missing or switched off", x.cpuName())
	}
	return good("%s has SMX and VMX", x.cpuName())
}

func (x *exam) skinit() finding {
	skinit, known := x.hasFeature("skinit")
	svm, _ := x.hasFeature("svm")
	switch {
	case !known:
		advice, reason := x.featureAdvice()
		return unknown(advice, "whether the CPU has SKINIT is not known: %s", reason)
	case !skinit:
		return bad("a launch needs a CPU with SKINIT", "%s has no SKINIT", x.cpuName())
	case !svm:
		return bad("switch virtualisation (SVM) on in the firmware's setup", "%s has SKINIT, but its SVM is missing or switched off", x.cpuName())
	}
	return good("%s has SKINIT and SVM", x.cpuName())
}

// Bits of IA32_FEATURE_CONTROL (SDM, volume 4, table 2-2). SENTER works only where
// all its bits are set and the register is locked.
const (
	featureLock      = 1 << 0
	featureVMXInSMX  = 1 << 1
	featureSENTER    = 0x7f << 8 // each allows one of its functions
	featureSENTERAll = 1 << 15
)

const txtAdvice = "switch Intel TXT (Trusted Execution) on in the firmware's setup; most want the TPM, VT-x and VT-d switched on before they offer it"

func (x *exam) senter() finding {
	v := x.Firmware.FeatureControl
	switch {
	case x.launched():
		return good("SENTER was executed in this boot")
	case x.Xen != nil && x.Xen.Host && x.biosData().state == Good:
		return good("the firmware prepared TXT, as it does where it allows SENTER; Xen does not show dom0 what IA32_FEATURE_CONTROL holds")
	case x.Xen != nil && x.Xen.Host:
		return unknown("start this machine once without Xen to see it, or try the launch", "Xen does not show dom0 what IA32_FEATURE_CONTROL holds")
	case v == nil:
		return unknown(rootAdvice+", with the kernel's module msr loaded", "IA32_FEATURE_CONTROL was not read: %s", x.why(itemFeatureControl))
	case *v&(featureSENTER|featureSENTERAll) != featureSENTER|featureSENTERAll:
		return bad(txtAdvice, "the firmware has switched SENTER off (IA32_FEATURE_CONTROL %#x)", uint64(*v))
	case *v&featureVMXInSMX == 0:
		return bad(txtAdvice, "the firmware forbids VMX after SENTER (IA32_FEATURE_CONTROL %#x)", uint64(*v))
	case *v&featureLock == 0:
		return bad("update the firmware", "the firmware left IA32_FEATURE_CONTROL unlocked (%#x), and SENTER then refuses", uint64(*v))
	}
	return good("the firmware allows SENTER, and VMX after it (IA32_FEATURE_CONTROL %#x)", uint64(*v))
}

// vmcrDisabled is VM_CR.SVMDIS (APM, volume 2, section 15.30.1).
const vmcrDisabled = 1 << 4

func (x *exam) svm() finding {
	v := x.Firmware.VMCR
	switch {
	case x.Xen != nil && x.Xen.Host && x.hostHVM():
		return good("Xen uses SVM")
	case x.Xen != nil && x.Xen.Host:
		return unknown("run this as root in dom0, where xl info works", "Xen does not show dom0 what VM_CR holds, nor that it uses SVM itself")
	case v == nil:
		return unknown(rootAdvice+", with the kernel's module msr loaded", "VM_CR was not read: %s", x.why(itemVMCR))
	case *v&vmcrDisabled != 0:
		return bad("switch virtualisation (SVM) on in the firmware's setup", "the firmware has switched SVM off (VM_CR %#x), and boot loaders then don't launch", uint64(*v))
	}
	return good("the firmware allows SVM (VM_CR %#x)", uint64(*v))
}

// hostHVM reports whether Xen runs guests by the CPU's virtualisation.
func (x *exam) hostHVM() bool { return x.hostCan("hvm") }

// hostCan reports whether a word stands among Xen's virt_caps.
func (x *exam) hostCan(word string) bool {
	return slices.Contains(fields(x.Xen.Virtual), word)
}

// iommu asks for protection against devices that write into memory by themselves:
// what was measured stays what it was only where no device can change it.
func (x *exam) iommu() finding {
	f := x.Firmware
	if x.noFirmware {
		return unknown("", "the IOMMU was not looked for: %s", x.why(fileFirmware))
	}
	const advice = "switch VT-d or AMD-Vi (IOMMU) on in the firmware's setup"
	switch {
	case x.Xen != nil && x.Xen.Host:
		switch {
		case x.hostCan("pv_directio") || x.hostCan("hvm_directio"):
			return good("Xen uses the IOMMU")
		case x.Xen.Virtual == "":
			return unknown("run this as root in dom0, where xl info works", "whether Xen uses an IOMMU is not known: %s", x.why(fileXen))
		}
		return bad(advice+", and leave iommu=no out of Xen's command line", "Xen uses no IOMMU: devices can change memory after the launch")
	case len(f.IOMMUs) > 0:
		return good("%d in use", len(f.IOMMUs))
	case len(f.Tables) > 0:
		return warning("add intel_iommu=on or amd_iommu=on to the kernel's command line", "the firmware announces an IOMMU (%s), and the kernel does not use it", f.Tables[0])
	}
	return bad(advice, "the firmware announces no IOMMU: devices can change memory after the launch")
}

func (x *exam) lockdown() finding {
	f := x.Firmware
	if x.noFirmware {
		return unknown("", "neither was read: %s", x.why(fileFirmware))
	}
	const advice = "what this report lacks can be read after a start with Secure Boot switched off; the launch itself needs a boot loader with the slaunch command, which then must be signed with a key of the owner's"
	boot := "Secure Boot is not there"
	switch {
	case f.SecureBoot != nil && *f.SecureBoot:
		boot = "Secure Boot is on"
	case f.SecureBoot != nil:
		boot = "Secure Boot is off"
	case f.UEFI:
		boot = "whether Secure Boot is on is not known (" + x.why(itemSecureBoot) + ")"
	}
	lock := "no lockdown"
	if f.Lockdown == "" {
		lock = "the kernel does not tell of a lockdown"
	}
	switch {
	case f.Lockdown == "integrity" || f.Lockdown == "confidentiality":
		return warning(advice, "%s, and the kernel's lockdown (%s) bars physical memory and MSRs", boot, f.Lockdown)
	case f.SecureBoot != nil && *f.SecureBoot:
		return warning("the boot loader with the slaunch command must be signed with a key of the owner's", "%s", boot)
	}
	return good("%s; %s", boot, lock)
}
