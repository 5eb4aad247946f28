package drtm_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/tpm"
)

// shape is a measurement without its digests.
func shape(ms []drtm.Measurement) []string {
	var l []string
	for _, m := range ms {
		l = append(l, fmt.Sprintf("%d@%d %s %s %q", m.PCR, m.Locality, m.Type, m.Role, m.Data))
	}
	return l
}

func TestWhatALaunchBySKINITMeasures(t *testing.T) {
	want := []string{
		`17@4 EVTYPE_SLAUNCH launched image "SKINIT"`,
		`17@2 EVTYPE_SLAUNCH kernel entry point "DLME entry offset"`,
		`17@2 EVTYPE_SLAUNCH kernel "DLME"`,
		`17@2 EV_NO_ACTION marker ""`,
		`18@2 EVTYPE_SLAUNCH secure launch resource table "Measured SLR Table"`,
		`18@2 EVTYPE_SLAUNCH kernel boot parameters "Measured boot parameters"`,
		`18@2 EVTYPE_SLAUNCH kernel command line "Measured Kernel command line"`,
		`17@2 EVTYPE_SLAUNCH initramfs "Measured Kernel initrd"`,
		`17@2 EV_NO_ACTION marker ""`,
	}
	for _, v := range []tpm.Version{tpm.V12, tpm.V20} {
		if diff := cmp.Diff(want, shape(measurements(t, launch(drtm.SKINIT, v)))); diff != "" {
			t.Errorf("%s (-want +got)\n%s", v, diff)
		}
	}
}

// types are the measurements' PCRs and types alone.
func types(ms []drtm.Measurement) []string {
	var l []string
	for _, m := range ms {
		l = append(l, fmt.Sprintf("%d %#x@%d", m.PCR, uint32(m.Type), m.Locality))
	}
	return l
}

// The order is that of every real log of a TPM 2.0 in the collection.
func TestWhatALaunchByTXTMeasures(t *testing.T) {
	linux := []string{"17 0x3@2", "18 0x502@2", "18 0x502@2", "18 0x502@2", "18 0x502@2", "17 0x502@2", "17 0x3@2"}
	for v, acm := range map[tpm.Version][]string{
		tpm.V20: {
			"17 0x402@4", "17 0x40a@3", "17 0x40b@3", "17 0x40c@3", "17 0x412@3", "17 0x40e@3", "17 0x40f@3", "17 0x404@3", "17 0x414@3",
			"18 0x410@3", "18 0x40b@3", "18 0x40f@3", "18 0x40c@3", "18 0x413@3", "18 0x414@3",
		},
		tpm.V12: {
			"255 0x401@3",
			"17 0x402@4", "17 0x40a@3", "17 0x40b@3", "17 0x40c@3", "17 0x412@3", "17 0x40e@3", "17 0x40f@3", "17 0x404@3",
			"18 0x410@3", "18 0x40b@3", "18 0x40f@3", "18 0x40c@3", "18 0x413@3",
		},
	} {
		got := types(measurements(t, launch(drtm.TXT, v)))
		if diff := cmp.Diff(append(acm, linux...), got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", v, diff)
		}
	}
}

// Every thing that is measured changes the PCR that it belongs to, and no other.
func TestEachThingChangesItsPCR(t *testing.T) {
	each(t, func(t *testing.T, p drtm.Platform, v tpm.Version) {
		before := predict(t, launch(p, v))
		for name, c := range map[string]struct {
			change func(*drtm.LinuxLaunch)
			want   string
		}{
			"loader":                   {func(l *drtm.LinuxLaunch) { l.Loader[40%len(l.Loader)] ^= 1 }, "17"},
			"kernel's code":            {func(l *drtm.LinuxLaunch) { l.Kernel[3000] ^= 1 }, "17"},
			"kernel's setup header":    {func(l *drtm.LinuxLaunch) { l.Kernel[0x260] ^= 1 }, "17,18"},
			"initramfs":                {func(l *drtm.LinuxLaunch) { l.Initrd[0] ^= 1 }, "17"},
			"initramfs taken away":     {func(l *drtm.LinuxLaunch) { l.Initrd = nil }, "17"},
			"command line":             {func(l *drtm.LinuxLaunch) { l.CommandLine += " init=/bin/sh" }, "18"},
			"loader behind the length": {func(l *drtm.LinuxLaunch) { l.Loader = append(l.Loader, 1) }, map[drtm.Platform]string{drtm.TXT: "17"}[p]},
		} {
			l := launch(p, v)
			c.change(&l)
			after := predict(t, l)
			for i := range before {
				var changed tpm.PCRs
				for q := range tpm.PCRSet(17, 18, 19, 20, 21, 22).All() {
					if !before[i].Values[q].Equal(after[i].Values[q]) {
						changed |= tpm.PCRSet(q)
					}
				}
				if changed.String() != c.want {
					t.Errorf("%s: in the %s bank PCRs %s changed; want %s", name, before[i].Alg, changed, c.want)
				}
			}
		}
	})
}

// The start of PCR 17, written out: the only arithmetic that the CPU does.
func TestTheCPUsPartOfThePCR(t *testing.T) {
	zeros := make([]byte, 32)
	for p, hashed := range map[drtm.Platform][]byte{
		drtm.SKINIT: slb()[:64],
		drtm.TXT:    append(tpm.SHA256.Sum([]byte("a SINIT module")), 0, 0, 0, 0),
	} {
		l := launch(p, tpm.V20)
		if diff := cmp.Diff(hashed, l.LaunchData()); diff != "" {
			t.Errorf("%s: the CPU hashes something else:\n%s", p, diff)
		}
		ms := measurements(t, l)
		banks, err := drtm.Predict([]tpm.Alg{tpm.SHA256}, ms[:1])
		if err != nil {
			t.Fatal(err)
		}
		want := tpm.SHA256.Sum(zeros, tpm.SHA256.Sum(hashed))
		if got := banks.Value(tpm.SHA256, 17); !got.Equal(want) {
			t.Errorf("%s: PCR 17 is %s; want %s", p, got, want)
		}
		if !ms[0].ByCPU() || ms[1].ByCPU() {
			t.Errorf("%s: the first measurement, and no other, is the CPU's", p)
		}
	}
}

// On a TPM 1.2 SINIT is known by its SHA-1.
func TestTheCPUsPartOnATPM12(t *testing.T) {
	want := append(tpm.SHA1.Sum([]byte("a SINIT module")), 0, 0, 0, 0)
	if got := launch(drtm.TXT, tpm.V12).LaunchData(); !cmp.Equal([]byte(want), got) {
		t.Errorf("the CPU hashes %x; want %x", got, want)
	}
}

// There, the PCR also gets the identity of the firmware's module as it is, and
// not a hash of it.
func TestTheFirmwaresIdentityOnATPM12(t *testing.T) {
	m := measurements(t, launch(drtm.TXT, tpm.V12))[2]
	if m.Role != drtm.RoleBIOSACM || len(m.Data) != 20 || !m.Digests[0].Digest.Equal(m.Data) {
		t.Errorf("%s: %x is measured as %s", m.Role, m.Data, m.Digests[0].Digest)
	}
}

func TestLaunchesThatCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*drtm.LinuxLaunch)
		want   error
	}{
		"no platform":               {func(l *drtm.LinuxLaunch) { l.Platform = 0 }, drtm.ErrLoader},
		"no family":                 {func(l *drtm.LinuxLaunch) { l.Version = 0 }, drtm.ErrBanks},
		"no bank":                   {func(l *drtm.LinuxLaunch) { l.Algs = nil }, drtm.ErrBanks},
		"a bank that is unknown":    {func(l *drtm.LinuxLaunch) { l.Algs = []tpm.Alg{tpm.SHA256, tpm.SM3} }, drtm.ErrBanks},
		"SHA-256 on a TPM 1.2":      {func(l *drtm.LinuxLaunch) { l.Version = tpm.V12 }, drtm.ErrBanks},
		"no loader":                 {func(l *drtm.LinuxLaunch) { l.Loader = nil }, drtm.ErrLoader},
		"a header of three bytes":   {func(l *drtm.LinuxLaunch) { l.Loader = l.Loader[:3] }, drtm.ErrLoader},
		"a length beyond the block": {func(l *drtm.LinuxLaunch) { l.Loader[2] = 101 }, drtm.ErrLoader},
		"64 KiB beyond the block":   {func(l *drtm.LinuxLaunch) { l.Loader[2] = 0 }, drtm.ErrLoader},
		"a length below the header": {func(l *drtm.LinuxLaunch) { l.Loader[2] = 3 }, drtm.ErrLoader},
		"an entry that is unhashed": {func(l *drtm.LinuxLaunch) { l.Loader[0] = 64 }, drtm.ErrLoader},
		"no kernel":                 {func(l *drtm.LinuxLaunch) { l.Kernel = nil }, drtm.ErrKernel},
	} {
		l := launch(drtm.SKINIT, tpm.V20)
		c.change(&l)
		if ms, err := l.Measurements(); !errors.Is(err, c.want) {
			t.Errorf("%s: %d measurements, %v", name, len(ms), err)
		}
	}
}

// A length of zero stands for the whole of 64 KiB.
func TestALengthOfZeroIs64KiB(t *testing.T) {
	block := make([]byte, 64<<10+1)
	block[0] = 16
	l := drtm.LinuxLaunch{Platform: drtm.SKINIT, Loader: block}
	if n := len(l.LaunchData()); n != 64<<10 {
		t.Errorf("the CPU hashes %d bytes", n)
	}
}

func TestPredictRefusesWhatItCannotCompute(t *testing.T) {
	if _, err := drtm.Predict([]tpm.Alg{tpm.SM3}, nil); err == nil {
		t.Error("a bank was predicted whose digests can't be computed")
	}
	ms := measurements(t, launch(drtm.TXT, tpm.V12))
	if _, err := drtm.Predict([]tpm.Alg{tpm.SHA256}, ms); err == nil {
		t.Error("a bank was predicted for which no digest is known")
	}
}
