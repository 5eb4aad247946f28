package doctor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/tpm"
)

func (x *exam) tpmFamily() finding {
	switch {
	case x.TPM == nil:
		return unknown(rootAdvice, "the TPM was not read: %s", x.why(fileTPM))
	case x.TPM.Absent:
		return bad("switch the TPM on in the firmware's setup, where it may be called Security Device or PTT; on AMD it must be a chip of its own, not the fTPM",
			"this machine shows no TPM")
	case x.TPM.family() == 0:
		return unknown("", "the TPM's family, %q, is none that is known", x.TPM.Family)
	}
	return good("%s", x.TPM.family())
}

func (x *exam) tpmMaker() finding {
	c := x.chip()
	if c.maker == "" {
		return unknown("", "the TPM does not tell its maker: %s", x.why(x.TPM.makerItem()))
	}
	text := c.maker
	if c.model != "" {
		text += " " + c.model
	}
	text += ", firmware " + c.versionText()
	if c.specification != "" {
		text += ", specification " + c.specification
	}
	if c.weakRSA() {
		return warning("update the TPM's firmware by the machine's maker, then clear the TPM and set AEM up anew: keys made before stay weak",
			"%s: its RSA keys can be computed from their public halves (ROCA, CVE-2017-15361)", text)
	}
	return good("%s", text)
}

func (x *exam) tpmOn() finding {
	if x.TPM.family() == tpm.V12 {
		return x.tpmOn12()
	}
	v, ok := x.TPM.property(propStartupClear)
	switch {
	case !ok:
		return unknown("", "the TPM does not tell which hierarchies are on: %s", x.why(itemTPMProperties))
	case v&startupStorage == 0:
		return bad("switch the TPM's storage hierarchy on in the firmware's setup, or restart", "the TPM's storage hierarchy is off: nothing can be sealed")
	case v&startupEndorsement == 0:
		return warning("switch the TPM's endorsement hierarchy on in the firmware's setup", "the TPM's endorsement hierarchy is off: it can't prove which TPM it is")
	}
	return good("its hierarchies are on")
}

// The flags of a TPM 1.2 in TPM_PERMANENT_FLAGS, after a tag of two bytes
// (TPM 1.2 Main, part 2, clause 7.1).
const (
	flag12Disabled    = 2
	flag12Deactivated = 4
	flag12NVLocked    = 17
)

func (x *exam) tpmOn12() finding {
	f := x.TPM.Flags
	switch {
	case len(f) <= flag12NVLocked:
		return unknown("", "the TPM does not tell whether it is on: %s", x.why(itemTPMFlags))
	case f[flag12Disabled] != 0:
		return bad("enable the TPM in the firmware's setup", "the TPM is disabled")
	case f[flag12Deactivated] != 0:
		return bad("activate the TPM in the firmware's setup", "the TPM is deactivated")
	case f[flag12NVLocked] == 0:
		return warning("lock it for good with tpm_nvdefine -i 0xffffffff -s 0", "the TPM was never finished: it does not enforce who may write its NV memory (nvLocked)")
	}
	return good("it is enabled and active")
}

func (x *exam) pcrBanks() finding {
	if len(x.TPM.Banks) == 0 {
		return unknown("", "the PCRs were not read: %s", x.why(itemTPMPCRs))
	}
	var names []string
	for _, b := range x.TPM.Banks {
		names = append(names, b.Alg)
	}
	list := strings.Join(names, ", ")
	const most = 3 // SINIT stops at more (class 4, error 0xf)
	switch {
	case x.TPM.family() == tpm.V12:
		return warning("a machine with a TPM 2.0 measures in SHA-256", "%s alone, as every TPM 1.2: an attacker with great means finds two files with the same measurement", list)
	case !slices.Contains(names, tpm.SHA256.String()):
		return warning("switch the SHA-256 bank on, in the firmware's setup or with tpm2_pcrallocate", "%s, and not sha256", list)
	case x.platform == drtm.TXT && len(names) > most:
		return warning("switch banks off with tpm2_pcrallocate", "%s: SINIT modules refuse a TPM with more than %d banks", list, most)
	}
	return good("%s", list)
}

// firmwarePCRs are those that every firmware that measures extends at each start.
var firmwarePCRs = tpm.PCRSet(0, 1, 2, 3, 4, 5, 6, 7)

// bankUse looks for banks that nobody measures into. Whoever comes later can extend
// into such a bank what he likes, and a verifier that takes any one bank believes it
// (CVE-2021-42299).
func (x *exam) bankUse() finding {
	var used, unused []string
	for i := range x.banks {
		b := &x.banks[i]
		read, zero := 0, 0
		for p := range firmwarePCRs.All() {
			if b.Values[p] != nil {
				read++
			}
			if b.Values[p].All(0) {
				zero++
			}
		}
		switch {
		case read < firmwarePCRs.Len():
		case zero == read:
			unused = append(unused, b.Alg.String())
		default:
			used = append(used, b.Alg.String())
		}
	}
	switch {
	case len(used)+len(unused) == 0:
		return unknown("", "the PCRs of the firmware were not read: %s", x.why(itemTPMPCRs))
	case len(used) == 0:
		return warning("a dynamic launch does not need them; firmware that measures itself helps to notice its change", "the firmware measures into no bank: PCRs 0 to 7 hold zeros")
	case len(unused) > 0:
		return warning("switch that bank off with tpm2_pcrallocate, or update the firmware", "nothing measures into the bank %s, and anybody can fill it", strings.Join(unused, ", "))
	}
	return good("the firmware measures into %s", strings.Join(used, ", "))
}

// Needed of a TPM 1.2's NV memory: an area of 24 bytes with its description.
const needed12 = 100

func (x *exam) freeNV() finding {
	if x.TPM.family() == tpm.V12 {
		switch free := x.TPM.FreeNV; {
		case free == nil:
			return unknown("", "the TPM does not tell: %s", x.why(itemTPMFree))
		case *free < needed12:
			return warning("remove NV areas that nobody uses any more", "%d bytes: too few for a medium's counter", *free)
		default:
			return good("%d bytes, %d areas in use", *free, len(x.TPM.Indices))
		}
	}
	free, ok := x.TPM.property(propCountersFree)
	keys, keysOK := x.TPM.property(propPersistentFree)
	switch {
	case !ok || !keysOK:
		return unknown("", "the TPM does not tell: %s", x.why(itemTPMProperties))
	case free == 0:
		return warning("remove media that you no longer have, or NV indices that nobody uses", "there is room for no counter more, and each medium needs one; %d indices in use", len(x.TPM.Indices))
	case keys == 0:
		return warning("evict a persistent key that nobody uses, with tpm2_evictcontrol", "there is room for no persistent key more; AEM needs one, and can share a storage key that is there")
	}
	return good("room for %d counters and %d keys; %d indices in use", free, keys, len(x.TPM.Indices))
}

func (x *exam) lockout() finding {
	if x.TPM.family() == tpm.V12 {
		return x.lockout12()
	}
	var v [5]uint32
	for i, p := range []Hex{propLockoutCounter, propMaxAuthFail, propLockoutInterval, propLockoutRecovery, propPermanent} {
		n, ok := x.TPM.property(p)
		if !ok {
			return unknown("", "the TPM does not tell: %s", x.why(itemTPMProperties))
		}
		v[i] = n
	}
	failed, allowed, interval, recovery, permanent := v[0], v[1], seconds(v[2]), seconds(v[3]), v[4]
	how := fmt.Sprintf("%d of %d wrong tries; one is forgiven every %s, and the lockout password is taken again %s after a wrong one", failed, allowed, interval, recovery)
	switch {
	case permanent&permanentInLockout != 0 || failed >= allowed:
		return warning(fmt.Sprintf("wait %s, or end it with tpm2_dictionarylockout and the lockout password", interval), "the TPM refuses all PINs: %s", how)
	case interval == 0:
		return warning("set the parameters with tpm2_dictionarylockout --setup-parameters", "wrong tries are forgiven at once: a PIN can be guessed (%s)", how)
	case permanent&permanentLockoutAuth == 0:
		return warning("set a lockout password with tpm2_changeauth -c lockout; without one, whoever runs programs on this machine resets the counter", "no lockout password is set; %s", how)
	case failed > 0:
		return warning("", "%s", how)
	}
	return good("%s", how)
}

func seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }

func (x *exam) lockout12() finding {
	d := x.TPM.Defence
	switch {
	case d == nil:
		return unknown("", "the TPM does not tell: %s", x.why(itemTPMDefence))
	case d.Locked && d.Seconds > 0:
		return warning("wait", "the TPM refuses all PINs for %s", seconds(d.Seconds))
	case d.Locked:
		return warning("wait, or end it with the owner's password", "the TPM refuses all PINs, and does not say for how long")
	case d.Failed > 0:
		return warning("", "%d of %d wrong tries", d.Failed, d.Allowed)
	}
	return good("no wrong tries")
}

// locality asks whether the CPU's launch reaches the TPM: the hash sequence at
// locality 4 is a matter of the bus, which TPMs inside a processor don't have.
func (x *exam) locality() finding {
	maker := x.chip().maker
	const discrete = "put a TPM that is a chip of its own (dTPM) into the board's header, and choose it in the firmware's setup"
	switch {
	case x.launch.State == drtm.Verified && !x.Firmware.Simulated:
		return good("a launch reached the TPM in this boot")
	case maker == "":
		return unknown("", "the TPM does not tell its maker: %s", x.why(x.TPM.makerItem()))
	case maker == "AMD":
		return bad(discrete, "this is AMD's firmware TPM, which has no locality 4: SKINIT can't measure into it")
	case maker == "INTC" && x.platform == drtm.SKINIT:
		return bad(discrete, "a TPM in Intel's firmware on another maker's CPU")
	case maker == "INTC":
		return good("this is Intel's firmware TPM (PTT), which TXT can launch with a SINIT module that knows it")
	case slices.Contains([]string{"IBM", "GOOG", "VMW", "AMZN", "QEMU", "XEN"}, maker):
		return bad("run this on the machine itself", "this TPM is emulated (%s), and no CPU's launch reaches it", maker)
	case maker == "MSFT":
		return unknown("try the launch, or "+discrete, "whether Microsoft's TPM in the processor has a locality 4 is not known")
	}
	return good("a chip of its own, on a bus with localities")
}

// txtIndices looks for the NV indices that TXT keeps in the TPM.
func (x *exam) txtIndices() finding {
	if x.TPM.Indices == nil {
		return unknown("", "the TPM's NV indices were not listed: %s", x.why(itemTPMIndices))
	}
	aux, policy := auxIndices20, policyIndices20
	if x.TPM.family() == tpm.V12 {
		aux, policy = auxIndices12, policyIndices12
	}
	has := func(list []Hex) string {
		for _, i := range list {
			if slices.Contains(x.TPM.Indices, i) {
				return fmt.Sprintf("%#x", uint64(i))
			}
		}
		return ""
	}
	text := "no owner's launch policy"
	if p := has(policy); p != "" {
		text = "an owner's launch policy (" + p + "), which must allow the launch"
	}
	if a := has(aux); a != "" {
		return good("the auxiliary index %s is there; %s", a, text)
	}
	return warning("switch TXT off and on again in the firmware's setup, which makes it anew", "TXT's auxiliary index is missing: the SINIT module may stop; %s", text)
}
