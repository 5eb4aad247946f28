package maid_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// deed is a line of the table.
type deed struct {
	name string // what she does, or changes
	do   func(m *machine)
	want outcome
	// want12 is what must come of it on a TPM 1.2, where that is something else.
	want12 *outcome
	says   string // what the refusal must say besides

	// before is what the owner does before she comes.
	before func(m *machine)
	// look, where there is one, is done in place of one proof.
	look func(m *machine) (outcome, judge)
	// seals says that the owner sealed again while it was looked at.
	seals bool
	// regain is what the owner does where nobody can undo it.
	regain func(m *machine)
	// by is who refuses where it is not the TPM itself; by12 the same for TPM 1.2 alone.
	by, by12 judge
}

// wants is what must come of it.
func (d deed) wants(v tpm.Version) outcome {
	if v == tpm.V12 && d.want12 != nil {
		return *d.want12
	}
	return d.want
}

// judges is who must refuse.
func (d deed) judges(v tpm.Version) judge {
	switch {
	case d.wants(v).Cause == "":
		return ""
	case v == tpm.V12 && d.by12 != "":
		return d.by12
	case d.by != "":
		return d.by
	}
	return byTPM
}

// proof is the outcome that the owner wants to see.
var proof = outcome{Secret: sentence}

func refused(cause aem.Cause, exit aem.Exit, names ...string) outcome {
	return outcome{Cause: cause, Exit: exit, Names: names}
}

func changed(names ...string) outcome {
	return refused(aem.CauseChanged, aem.ExitMeasurements, names...)
}

// deeds is the table: what she does, and what must come of it.
func deeds(w *world) []deed {
	disk := func(i int, header string) func(*machine) { return func(m *machine) { m.disks[i] = header } }
	luks2, luks1 := "disk header "+uuids[0], "disk header "+uuids[1]
	notLaunched := refused(aem.CauseNotLaunched, aem.ExitMeasurements)
	unproven := refused(aem.CauseLogUnproven, aem.ExitMeasurements)
	otherTPM := refused(aem.CauseOtherTPM, aem.ExitOtherTPM)
	stale := refused(aem.CauseStale, aem.ExitStale)
	return []deed{
		{name: "nothing", want: proof},

		{name: "kernel", do: func(m *machine) { m.files.Kernel = testbed.BzImage("hers") }, want: changed("kernel")},
		{name: "initramfs", do: func(m *machine) { m.files.Initrd = []byte("hers") }, want: changed("initramfs")},
		{name: "one bit of the initramfs", do: func(m *machine) { m.files.Initrd = flip(m.files.Initrd, 3, 0) }, want: changed("initramfs")},
		{name: "kernel command line", do: func(m *machine) { m.files.CommandLine += " init=/bin/sh" }, want: changed("kernel command line")},
		{name: "launched image", do: func(m *machine) { m.files.Loader = flip(m.files.Loader, 8, 0) }, want: changed("launched image")},

		{name: "LUKS2: last year's header", do: disk(0, w.luks2.lastYears), want: changed(luks2)},
		{name: "LUKS2: a key slot of hers", do: disk(0, w.luks2.hersToo), want: changed(luks2)},
		{name: "LUKS2: cipher_null", do: disk(0, w.luks2.null), want: changed(luks2)},
		{name: "LUKS2: a volume of hers", do: disk(0, w.luks2.another), want: changed(luks2)},
		{name: "LUKS2: only written anew", do: disk(0, w.luks2.rewritten), want: proof},
		{name: "LUKS1: last year's header", do: disk(1, w.luks1.lastYears), want: changed(luks1)},
		{name: "LUKS1: a key slot of hers", do: disk(1, w.luks1.hersToo), want: changed(luks1)},
		{name: "LUKS1: cipher_null", do: disk(1, w.luks1.null), want: changed(luks1)},
		{name: "LUKS1: a volume of hers", do: disk(1, w.luks1.another), want: changed(luks1)},
		{name: "LUKS1: only written anew", do: disk(1, w.luks1.rewritten), want: proof},
		{name: "a disk taken out", do: func(m *machine) { m.disks = m.disks[:1] }, want: refused(aem.CauseNoDisk, aem.ExitMeasurements), says: uuids[1]},
		{name: "copy of a disk beside it", do: func(m *machine) { m.disks = append(m.disks, w.luks2.another) },
			want: refused(aem.CauseNoDisk, aem.ExitMeasurements), says: fmt.Sprintf("several LUKS volumes have the UUID %q", uuids[0]), by: byProgram},

		{name: "record of her machine", do: func(m *machine) { m.putRecords(w.hers[m.kind].records()) }, want: otherTPM},
		{name: "record removed", do: func(m *machine) { m.must(os.RemoveAll(m.records())) }, want: refused(aem.CauseRecordGone, aem.ExitDamaged), by: byNobody},

		{name: "record: any bit flipped", look: (*machine).flipRecord, want: refused(aem.CauseDamaged, aem.ExitDamaged), by: byProgram},
		{name: "its checksum mended, too", look: (*machine).flipUnderChecksum, want: refused(aem.CauseDamaged, aem.ExitDamaged), by: byProgram},

		{name: "record: other key or TPM", do: (*machine).pointElsewhere, want: refused(aem.CauseCleared, aem.ExitOtherTPM), want12: &otherTPM, by12: byProgram},

		{name: "kept for sealing: bits", look: (*machine).flipKept, seals: true, want: refused(aem.CauseDamaged, aem.ExitDamaged), by: byProgram},
		{name: "the set-up: bits", look: (*machine).flipSetup, seals: true, want: proof},

		{name: "old stick replayed", before: (*machine).ownerSealsAgain, do: func(m *machine) { m.putRecords(m.old) },
			want: stale, says: "it is generation 2, and the TPM's counter stands at 3", by12: byProgram},
		{name: "stick copied, then sealed", before: (*machine).ownerSealsAgain, do: func(m *machine) { m.medium = filepath.Dir(m.old) },
			want: stale, says: "it is generation 2, and the TPM's counter stands at 3", by12: byProgram},
		{name: "old record beside the new", before: (*machine).ownerSealsAgain, do: func(m *machine) { m.must(os.CopyFS(m.records(), os.DirFS(m.old))) }, want: proof},

		{name: "counter moved on", do: (*machine).moveCounter, want: stale, want12: &proof, regain: (*machine).sealAnew},
		{name: "storage key taken out", do: (*machine).evictKey, want: refused(aem.CauseCleared, aem.ExitOtherTPM), want12: &proof, regain: (*machine).setUpAnew},

		{name: "boot without launch", do: func(m *machine) { m.launch = func(*machine) {} }, want: notLaunched},
		{name: "PCR 17 made at locality 2", do: func(m *machine) { m.launch = (*machine).forgeLaunch }, want: notLaunched, says: "without a launch"},
		{name: "a second proof in a boot", do: func(m *machine) { m.launch = (*machine).launchAndProve },
			want: refused(aem.CauseAlready, aem.ExitMeasurements)},

		{name: "log emptied", do: func(m *machine) { m.forge = func([]byte) []byte { return nil } },
			want: refused(aem.CauseLogEmpty, aem.ExitMeasurements), by: byProgram},
		{name: "log forged", do: func(m *machine) { m.forge = m.withOtherDigest }, want: unproven, by: byProgram},
		{name: "log cut short", do: func(m *machine) { m.forge = m.cutShort }, want: unproven, by: byProgram},
		{name: "initramfs, the good log", do: func(m *machine) {
			good := m.goodLog()
			m.files.Initrd = []byte("hers")
			m.forge = func([]byte) []byte { return good }
		}, want: unproven, says: "does not replay"},
		{name: "log: only other words", do: func(m *machine) {
			m.forge = func(log []byte) []byte { return bytes.ReplaceAll(log, []byte("Measured"), []byte("Harmless")) }
		}, want: proof},

		{name: "TPM cleared", do: (*machine).clearTPM, want: refused(aem.CauseCleared, aem.ExitOtherTPM), regain: (*machine).setUpAnew},
		{name: "TPM exchanged for hers", do: func(m *machine) { m.exchangeTPM(w.hers[m.kind]) }, want: otherTPM},
		{name: "TPM of the other family", do: func(m *machine) { m.exchangeTPM(w.hers[m.otherFamily()]) },
			want: refused(aem.CauseOtherFamily, aem.ExitOtherTPM), by: byNobody},
		{name: "her TPM and her record", do: func(m *machine) {
			m.exchangeTPM(w.hers[m.kind])
			m.putRecords(w.hers[m.kind].records())
		}, want: outcome{Secret: hers}},
	}
}

// flip is a copy of bytes with one bit turned over.
func flip(b []byte, at, bit int) []byte {
	c := bytes.Clone(b)
	c[at] ^= 1 << bit
	return c
}
