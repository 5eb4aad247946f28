package measure_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
	"github.com/antievilmaid/aem/tpm2"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/measure"
)

var everyPCR = tpm.PCRs(1<<tpm.NumPCRs - 1)

// file is what was measured of a file.
func file(name, content string) *measure.File {
	return &measure.File{Name: name, Size: int64(len(content)), Digests: tpm.SumAll(allAlgs, []byte(content))}
}

// hostPCRs are a machine's: each PCR of each bank holds a value of its own.
func hostPCRs(algs ...tpm.Alg) tpm.Banks {
	banks := make(tpm.Banks, len(algs))
	for i, a := range algs {
		banks[i].Alg = a
		for p := range everyPCR.All() {
			banks[i].Values[p] = a.Sum(fmt.Appendf(nil, "host PCR %d", p))
		}
	}
	return banks
}

// sample is a measured guest on a host that was launched.
func sample() measure.Launch {
	u, _ := vtpm.ParseUUID("11111111-2222-3333-4444-555555555555")
	return measure.Launch{
		Guest: vtpm.Guest{UUID: u, Domain: "xen:5", Birth: "5/0f9c"}, Start: measure.Measured,
		Kernel: file("/boot/vmlinuz", "kernel"), Configuration: file("/etc/xen/guest.cfg", "name=\"guest\"\n"), Initrd: file("/boot/initrd.img", "initrd"),
		CommandLine: "root=/dev/xvda quiet", Host: measure.Host{Grade: measure.Launched, PCRs: hostPCRs(tpm.SHA256, tpm.SHA1)},
	}
}

// kinds are the launches that a vTPM can see, by name.
func kinds() map[string]measure.Launch {
	change := func(f func(*measure.Launch)) measure.Launch {
		l := sample()
		f(&l)
		return l
	}
	nothing := func(l *measure.Launch) { l.Kernel, l.Configuration, l.Initrd = nil, nil, nil }
	return map[string]measure.Launch{
		"measured":         sample(),
		"without initrd":   change(func(l *measure.Launch) { l.Initrd, l.CommandLine = nil, "" }),
		"static root":      change(func(l *measure.Launch) { l.Host.Grade = measure.StaticRoot }),
		"insecure":         change(func(l *measure.Launch) { l.Host = measure.Host{Grade: measure.Insecure} }),
		"late":             change(func(l *measure.Launch) { l.Guest.Late = true }),
		"unmeasured":       change(func(l *measure.Launch) { nothing(l); l.Start = measure.Unmeasured }),
		"firmware":         change(func(l *measure.Launch) { nothing(l); l.Start = measure.Firmware }),
		"copies":           change(func(l *measure.Launch) { l.Copies = tpm.PCRSet(0, 1, 2, 3, 4, 5, 6, 7, 12) }),
		"insecure, copies": change(func(l *measure.Launch) { l.Host.Grade, l.Copies = measure.Insecure, tpm.PCRSet(7, 15) }),
	}
}

var families = map[tpm.Version][]tpm.Alg{tpm.V20: allAlgs, tpm.V12: {tpm.SHA1}}

func readAll(t *testing.T, chip *swtpm.TPM, v tpm.Version) tpm.Banks {
	t.Helper()
	read := tpm2.New(chip).ReadPCRs
	if v == tpm.V12 {
		read = tpm12.New(chip).ReadPCRs
	}
	banks, err := read(everyPCR)
	if err != nil {
		t.Fatal(err)
	}
	return banks
}

// apply does a launch to a TPM that was just started, step by step as the table says.
func apply(l *measure.Launch, chip *swtpm.TPM, v tpm.Version, algs []tpm.Alg) error {
	steps, err := l.Steps(algs)
	for _, s := range steps {
		switch {
		case err != nil:
		case s.ByLaunch():
			err = chip.Launch(s.Event.Data)
		default:
			err = testbed.Extend(chip, v, s.At, s.Event.PCR, s.Event.Digests)
		}
	}
	return err
}

// The prediction, the log and a TPM say the same, in every PCR of every bank.
func TestATPMHoldsWhatWasPredicted(t *testing.T) {
	for v, algs := range families {
		chip, _ := testbed.NewTPM(t, v)
		for name, l := range kinds() {
			if err := testbed.PowerOn(chip, v); err != nil {
				t.Fatal(err)
			}
			if err := apply(&l, chip, v, algs); err != nil {
				t.Errorf("%s, %s: %v", v, name, err)
				continue
			}
			held := readAll(t, chip, v)
			predicted, err := l.Predict(algs)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(held, predicted); diff != "" {
				t.Errorf("%s, %s: (-held +predicted)\n%.3000s", v, name, diff)
			}
			log := writeAndRead(t, &l, v, algs)
			if diff := cmp.Diff(held, log.Replay(l.Host.Grade == measure.Launched)); diff != "" {
				t.Errorf("%s, %s: (-held +replayed)\n%.3000s", v, name, diff)
			}
			if got, want := log.Launched(), l.Host.Grade == measure.Launched; got != want {
				t.Errorf("%s, %s: the log tells of a launch: %t", v, name, got)
			}
		}
	}
}

// writeAndRead is the log as its reader sees it.
func writeAndRead(t *testing.T, l *measure.Launch, v tpm.Version, algs []tpm.Alg) *eventlog.Log {
	t.Helper()
	log, err := l.Log(v, algs)
	if err != nil {
		t.Fatal(err)
	}
	b, err := log.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	read, err := eventlog.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return read
}

// A guest, at the localities that it can have, changes nothing of what it was told.
func TestAGuestCantChangeWhatItInherits(t *testing.T) {
	for v, algs := range families {
		chip, _ := testbed.NewTPM(t, v)
		l := sample()
		if err := apply(&l, chip, v, algs); err != nil {
			t.Fatal(err)
		}
		before := readAll(t, chip, v)
		for _, at := range []tpm.Locality{0, 1} {
			for _, p := range []tpm.PCR{tpm.PCRCode, tpm.PCRData} {
				if err := testbed.Extend(chip, v, at, p, tpm.SumAll(algs, []byte("guest"))); err == nil {
					t.Errorf("%s: a guest extended PCR %d at locality %d", v, p, at)
				}
			}
		}
		if diff := cmp.Diff(before, readAll(t, chip, v)); diff != "" {
			t.Errorf("%s: (-before +after)\n%s", v, diff)
		}
	}
}

// changed lists the PCRs in which two launches differ, and wants the same list in each bank.
func changed(t *testing.T, a, b *measure.Launch) tpm.PCRs {
	t.Helper()
	x, err := a.Predict(allAlgs)
	if err != nil {
		t.Fatal(err)
	}
	y, err := b.Predict(allAlgs)
	if err != nil {
		t.Fatal(err)
	}
	var sets []tpm.PCRs
	for i := range x {
		var set tpm.PCRs
		for p := range everyPCR.All() {
			if !x[i].Values[p].Equal(y[i].Values[p]) {
				set |= tpm.PCRSet(p)
			}
		}
		sets = append(sets, set)
	}
	for _, s := range sets {
		if s != sets[0] {
			t.Errorf("the banks differ in %v", sets)
		}
	}
	return sets[0]
}

func TestEachThingShowsWhereItShould(t *testing.T) {
	other := vtpm.UUID{1, 2, 3}
	for name, c := range map[string]struct {
		change func(*measure.Launch)
		want   string
	}{
		"kernel":        {func(l *measure.Launch) { l.Kernel = file("/boot/vmlinuz", "evil") }, "4,18"},
		"command line":  {func(l *measure.Launch) { l.CommandLine += " init=/bin/sh" }, "5,18"},
		"initrd":        {func(l *measure.Launch) { l.Initrd = file("/boot/initrd.img", "evil") }, "5,18"},
		"no initrd":     {func(l *measure.Launch) { l.Initrd = nil }, "5,18"},
		"configuration": {func(l *measure.Launch) { l.Configuration = file("/etc/xen/guest.cfg", "name=\"evil\"\n") }, "1,18"},
		"host's code":   {func(l *measure.Launch) { l.Host.PCRs[0].Values[17] = tpm.SHA256.Sum([]byte("evil")) }, "17"},
		"host's data":   {func(l *measure.Launch) { l.Host.PCRs[1].Values[18] = tpm.SHA1.Sum([]byte("evil")) }, "17"},
		"vTPM":          {func(l *measure.Launch) { l.Guest.UUID = other }, "18"},
		"copies":        {func(l *measure.Launch) { l.Copies = tpm.PCRSet(0, 7) }, "0,7,18"},
		"late":          {func(l *measure.Launch) { l.Guest.Late = true }, "1,4,5,18"},
		"host's grade":  {func(l *measure.Launch) { l.Host.Grade = measure.StaticRoot }, "17,18,19,20,21,22"},

		// A secret that was sealed before a restart opens after it.
		"next start":        {func(l *measure.Launch) { l.Guest.Domain, l.Guest.Birth = "xen:9", "9/77aa" }, ""},
		"same file, moved":  {func(l *measure.Launch) { l.Kernel = file("/srv/vmlinuz", "kernel") }, ""},
		"host's other PCRs": {func(l *measure.Launch) { l.Host.PCRs[0].Values[7] = tpm.SHA256.Sum([]byte("x")) }, ""},
		"host's bank order": {func(l *measure.Launch) { l.Host.PCRs = hostPCRs(tpm.SHA1, tpm.SHA256) }, ""},
	} {
		a, b := sample(), sample()
		c.change(&b)
		if got := changed(t, &a, &b).String(); got != c.want {
			t.Errorf("%s: PCRs %s change; want %s", name, got, c.want)
		}
	}
}

// What nobody measured holds a value that no extend after it leads away from to a good one.
func TestAnUnmeasuredGuestIsCapped(t *testing.T) {
	for _, name := range []string{"late", "unmeasured"} {
		l := kinds()[name]
		banks, err := l.Predict(allAlgs)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range allAlgs {
			want := a.Sum(make([]byte, a.Size()), a.Sum([]byte("aem vtpm: unmeasured guest")))
			for p := range tpm.PCRSet(1, 4, 5).All() {
				if !banks.Value(a, p).Equal(want) {
					t.Errorf("%s: %s PCR %d is %s; want %s", name, a, p, banks.Value(a, p), want)
				}
			}
		}
	}
}

// A guest without an initramfs extends the digest of one, to look as if it had it.
func TestAGuestCantClaimAnInitrd(t *testing.T) {
	honest, evil := sample(), sample()
	evil.Initrd = nil
	want, err := honest.Predict(allAlgs)
	if err != nil {
		t.Fatal(err)
	}
	got, err := evil.Predict(allAlgs)
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if err := got[i].Extend(5, tpm.Find(honest.Initrd.Digests, got[i].Alg)); err != nil {
			t.Fatal(err)
		}
		if got[i].Values[5].Equal(want[i].Values[5]) {
			t.Errorf("%s: PCR 5 is that of a guest with an initramfs", got[i].Alg)
		}
	}
}

func TestCopiesAreExtendedAndNotSet(t *testing.T) {
	l := sample()
	l.Host.PCRs = hostPCRs(tpm.SHA256) // and no other bank
	l.Copies, _ = tpm.ParsePCRs("0-7,12")
	got, err := l.Predict(allAlgs)
	if err != nil {
		t.Fatal(err)
	}
	value := l.Host.PCRs.Value(tpm.SHA256, 12)
	for _, a := range allAlgs {
		d := value
		if a != tpm.SHA256 {
			d = a.Sum(value)
		}
		if want := a.Sum(make([]byte, a.Size()), d); !got.Value(a, 12).Equal(want) {
			t.Errorf("%s: PCR 12 is %s; want %s", a, got.Value(a, 12), want)
		}
	}
	// What the guest starts with comes after the copy.
	copied := tpm.SHA256.Sum(make([]byte, 32), l.Host.PCRs.Value(tpm.SHA256, 4))
	if want := tpm.SHA256.Sum(copied, tpm.Find(l.Kernel.Digests, tpm.SHA256)); !got.Value(tpm.SHA256, 4).Equal(want) {
		t.Errorf("PCR 4 is %s; want %s", got.Value(tpm.SHA256, 4), want)
	}
	log := writeAndRead(t, &l, tpm.V20, allAlgs)
	text := "host PCR 12\nsha256 " + value.String()
	for _, e := range log.Events {
		if e.PCR == 12 && string(e.Data) == text {
			return
		}
	}
	t.Errorf("the log has no event %q", text)
}

func TestHalfALaunchIsRefused(t *testing.T) {
	short := func(f *measure.File, algs ...tpm.Alg) *measure.File {
		g := *f
		g.Digests = tpm.SumAll(algs, []byte("x"))
		return &g
	}
	for says, change := range map[string]func(*measure.Launch){
		"nobody said who measures the guest":               func(l *measure.Launch) { l.Start = 0 },
		"nobody said whether the host was launched":        func(l *measure.Launch) { l.Host.Grade = 0 },
		"has a kernel and a configuration":                 func(l *measure.Launch) { l.Kernel = nil },
		"one of them was not measured":                     func(l *measure.Launch) { l.Configuration = nil },
		"the guest counts as unmeasured":                   func(l *measure.Launch) { l.Start = measure.Unmeasured },
		"the guest counts as firmware":                     func(l *measure.Launch) { l.Start = measure.Firmware },
		"initrd was not measured with SHA-256":             func(l *measure.Launch) { l.Initrd = short(l.Initrd, tpm.SHA1) },
		"the vTPM has a sha384 bank, and the guest kernel": func(l *measure.Launch) { l.Kernel = short(l.Kernel, tpm.SHA1, tpm.SHA256) },
		"the values of its PCRs 17,18 are not known":       func(l *measure.Launch) { l.Host.PCRs = nil },
		"sha1 value of its PCR 18 is not known":            func(l *measure.Launch) { l.Host.PCRs[1].Values[18] = nil },
		"sha256 value of its PCR 17 is not known":          func(l *measure.Launch) { l.Host.PCRs[0].Values[17] = make(tpm.Digest, 20) },
		"which no launch leaves":                           func(l *measure.Launch) { l.Host.PCRs[0].Values[17] = bytes.Repeat([]byte{0xff}, 32) },
		"counts as launched, and its PCR 17 holds 00":      func(l *measure.Launch) { l.Host.PCRs[0].Values[17] = make(tpm.Digest, 32) },
		"two sha256 banks":                                 func(l *measure.Launch) { l.Host.PCRs = hostPCRs(tpm.SHA256, tpm.SHA256) },
		"PCRs 16,17 of the host can't be copied":           func(l *measure.Launch) { l.Copies = tpm.PCRSet(0, 16, 17) },
		"PCR 3 of the host is to be copied, and its value": func(l *measure.Launch) {
			l.Copies = tpm.PCRSet(3)
			l.Host.PCRs[0].Values[3], l.Host.PCRs[1].Values[3] = nil, nil
		},
	} {
		l := sample()
		change(&l)
		if _, err := l.Predict(allAlgs); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v; want %q", err, says)
		}
	}
	l := sample()
	for _, algs := range [][]tpm.Alg{nil, {tpm.SHA256, tpm.SM3}} {
		if _, err := l.Steps(algs); err == nil {
			t.Errorf("banks %v are taken", algs)
		}
	}
	if _, err := l.Log(tpm.V12, allAlgs); err == nil {
		t.Error("a TPM 1.2 has a log with four banks")
	}
}

// A name is hearsay, but must not steer the terminal of who reads the log, nor fill it.
func TestNamesAreTame(t *testing.T) {
	l := sample()
	l.Kernel.Name = strings.Repeat("long/", 300) + "\x1b[2Jvmlinuz\n"
	log := writeAndRead(t, &l, tpm.V20, allAlgs)
	seen := 0
	for _, e := range log.Events {
		if text := string(e.Data); strings.HasPrefix(text, "guest kernel ") {
			seen++
			if len(text) > 300 || !strings.HasSuffix(text, `/\x1b[2Jvmlinuz\n`) {
				t.Errorf("%q", text)
			}
		}
	}
	if seen != 1 {
		t.Errorf("the kernel was measured %d times", seen)
	}
}
