package doctor

import "github.com/antievilmaid/aem/drtm"

// The names of the rows.
const (
	RowMachine    = "machine"
	RowTPM        = "TPM"
	RowTPMMaker   = "TPM maker and firmware"
	RowTPMOn      = "TPM switched on"
	RowBanks      = "PCR banks"
	RowBankUse    = "PCR banks in use"
	RowFreeNV     = "free NV memory"
	RowLockout    = "lockout"
	RowLocality   = "locality 4"
	RowSMX        = "CPU: SMX"
	RowSKINIT     = "CPU: SKINIT"
	RowSENTER     = "firmware switch: SENTER"
	RowSVM        = "firmware switch: SVM"
	RowRegisters  = "TXT registers"
	RowChipset    = "chipset"
	RowHeap       = "TXT heap"
	RowDPR        = "DMA protected range"
	RowTXTIndices = "TXT indices in the TPM"
	RowIOMMU      = "IOMMU"
	RowSINIT      = "SINIT module"
	RowSINITAge   = "SINIT age"
	RowSKL        = "Secure Kernel Loader"
	RowStatus     = "TXT status"
	RowError      = "last TXT error"
	RowSecrets    = "secrets in memory"
	RowLaunch     = "this boot"
	RowLog        = "launch log"
	RowLockdown   = "Secure Boot and lockdown"
)

// The specifications.
const (
	specTPM2    = "TPM 2.0 Library, part 2, clause 6.13; TPM 1.2 Main, part 2, clause 21"
	specProfile = "TCG PC Client Platform TPM Profile, clause 4.6"
	specSDG     = "Intel TXT Software Development Guide, "
	specAPM     = "AMD64 Architecture Programmer's Manual, volume 2, "
	specSDM     = "Intel 64 and IA-32 Software Developer's Manual, "
)

// checks are the rows, from the machine up to this boot.
var checks = []check{
	{RowMachine, "", true, false, "CPUID leaf 1, ECX bit 31", (*exam).machine},
	{RowTPM, "", true, false, specTPM2, (*exam).tpmFamily},
	{RowTPMMaker, "", false, true, specTPM2, (*exam).tpmMaker},
	{RowTPMOn, "", true, true, "TPM 2.0 Library, part 2, clause 8.7; TPM 1.2 Main, part 2, clause 7.1", (*exam).tpmOn},
	{RowBanks, "", true, true, specProfile, (*exam).pcrBanks},
	{RowBankUse, "", false, true, "TCG PC Client Platform Firmware Profile, clause 3.3", (*exam).bankUse},
	{RowFreeNV, "", false, true, specTPM2, (*exam).freeNV},
	{RowLockout, "", false, true, "TPM 2.0 Library, part 1, clause 19.8; TPM 1.2 Main, part 1, clause 32", (*exam).lockout},
	{RowLocality, "", true, true, "TPM 2.0 Library, part 1, clause 17; " + specSDG + "chapter 1", (*exam).locality},

	{RowSMX, drtm.TXT.Name(), true, false, specSDM + "volume 2, Safer Mode Extensions Reference", (*exam).smx},
	{RowSENTER, drtm.TXT.Name(), true, false, specSDM + "volume 2, Safer Mode Extensions Reference", (*exam).senter},
	{RowRegisters, drtm.TXT.Name(), true, false, specSDG + "appendix B", (*exam).registers},
	{RowChipset, drtm.TXT.Name(), true, false, specSDG + "appendix B", (*exam).chipset},
	{RowHeap, drtm.TXT.Name(), true, false, specSDG + "appendix C", (*exam).biosData},
	{RowDPR, drtm.TXT.Name(), false, false, specSDG + "appendix B", (*exam).dpr},
	{RowTXTIndices, drtm.TXT.Name(), false, true, specSDG + "launch control policy", (*exam).txtIndices},
	{RowSINIT, drtm.TXT.Name(), true, false, specSDG + "appendix A", (*exam).sinitModule},
	{RowSINITAge, drtm.TXT.Name(), false, false, specSDG + "appendix A", (*exam).sinitAge},
	{RowStatus, drtm.TXT.Name(), true, false, specSDG + "appendix B", (*exam).status},
	{RowError, drtm.TXT.Name(), false, false, specSDG + "appendix H", (*exam).lastError},
	{RowSecrets, drtm.TXT.Name(), false, false, specSDG + "appendix B", (*exam).secrets},

	{RowSKINIT, drtm.SKINIT.Name(), true, false, specAPM + "section 15.27", (*exam).skinit},
	{RowSVM, drtm.SKINIT.Name(), true, false, specAPM + "section 15.4", (*exam).svm},
	{RowSKL, drtm.SKINIT.Name(), true, false, specAPM + "section 15.27", (*exam).loader},

	{RowIOMMU, "", false, false, specSDG + "chapter 1; " + specAPM + "section 15.24", (*exam).iommu},
	{RowLockdown, "", false, false, "Linux, kernel_lockdown(7)", (*exam).lockdown},
	{RowLaunch, "", false, true, specProfile, (*exam).thisBoot},
	{RowLog, "", false, false, specSDG + "appendix G; TCG PC Client Platform Firmware Profile, clause 10", (*exam).launchLog},
}
