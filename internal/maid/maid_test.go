package maid_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
)

const (
	sentence = "the lighthouse keeper sleeps on Tuesdays"
	hers     = "a sentence of the evil maid's"
)

// world is what was prepared once: the owner's machines, hers, and disks.
type world struct {
	owners, hers map[kind]*machine
	luks2, luks1 headers
}

func prepare(t *testing.T) *world {
	t.Helper()
	testbed.Need(t, "swtpm", "cryptsetup")
	w := &world{owners: map[kind]*machine{}, hers: map[kind]*machine{}, luks2: makeDisks(t, "luks2", uuids[0]), luks1: makeDisks(t, "luks1", uuids[1])}
	disks := []string{w.luks2.owners, w.luks1.owners}
	for _, k := range kinds {
		w.owners[k] = newMachine(t, k, disks, sentence)
		w.hers[k] = newMachine(t, k, disks, hers)
	}
	return w
}

func TestMain(m *testing.M) {
	code := m.Run()
	if err := table.publish("../../build/evil-maid.txt"); err != nil {
		os.Stderr.WriteString("the evil maid's table: " + err.Error() + "\n")
		code = 1
	}
	os.Exit(code)
}

// TestTheEvilMaid plays every line on every kind of machine.
func TestTheEvilMaid(t *testing.T) {
	w := prepare(t)
	for _, d := range deeds(w) {
		for _, k := range kinds {
			cell := table.cell(d.name, k)
			t.Run(d.name+"/"+k.String(), func(t *testing.T) {
				t.Parallel()
				cell.ran = true
				t.Cleanup(func() { cell.failed = t.Failed() })
				d.play(w.owners[k].copy(t), cell)
			})
		}
	}
}

// play does the deed, looks what comes of it, and undoes it.
func (d deed) play(m *machine, cell *cell) {
	t := m.t
	if d.before != nil {
		d.before(m)
	}
	home, undo := m.save()
	if d.do != nil {
		d.do(m)
	}
	medium := m.contents(m.medium)

	m.boot()
	cell.outcome, cell.judge = d.meet(m)
	if diff := cmp.Diff(d.wants(m.family), cell.outcome, cmpopts.IgnoreUnexported(outcome{})); diff != "" {
		t.Errorf("it says %q; wanted and got:\n%s", cell.said, diff)
	}
	if !strings.Contains(cell.said, d.says) {
		t.Errorf("it says %q and nothing of %q", cell.said, d.says)
	}
	if want := d.judges(m.family); cell.judge != want {
		t.Errorf("who refused: %q, not %q", cell.judge, want)
	}
	if d.seals {
		home, undo = m.save()
		medium = m.contents(m.medium)
	}
	if diff := cmp.Diff(medium, m.contents(m.medium)); diff != "" {
		t.Errorf("the boot wrote to the medium:\n%s", diff)
	}
	if diff := cmp.Diff(home, m.contents(m.homeDir())); diff != "" {
		t.Errorf("the boot wrote to the set-up:\n%s", diff)
	}
	if d.regain != nil && cell.Cause != "" {
		d.regain(m)
	} else {
		undo()
	}
	m.boot()
	if o := m.prove(); o.Secret != sentence {
		t.Errorf("after it was undone, the machine does not prove itself: %s (%s)", o.Cause, o.said)
	}
	if now := m.guesses(); now.Left != m.tries.Left || now.Lock != m.tries.Lock {
		t.Errorf("it cost tries: there were %d and are %d", m.tries.Left, now.Left)
	}
}

// meet asks the machine for its proof. Where it refuses, all that the program checks by
// itself is left out then, and the TPM has to judge.
func (d deed) meet(m *machine) (outcome, judge) {
	m.t.Helper()
	if d.look != nil {
		return d.look(m)
	}
	c := m.open(true)
	defer c.close()
	o := c.prove()
	if o.Cause == "" {
		return o, ""
	}
	if o.Cause == aem.CauseNoDisk { // the program measured nothing; so measure what is there, once
		m.disks = m.disks[:min(len(m.disks), len(uuids))]
		m.must(c.findDisks(uuids[:len(m.disks)]))
		_, err := c.Boot()
		m.must(err)
	}
	return o, c.bypassed(o.Cause)
}

// judge is who refused: the TPM itself, the program alone, or somebody who had nothing to open.
type judge string

const (
	byTPM     judge = "TPM"
	byProgram judge = "program"
	byNobody  judge = "no record"
)

// bypassed has the TPM open every record in every state.
func (c *client) bypassed(cause aem.Cause) judge {
	m := c.m
	m.t.Helper()
	records, err := seal.Read(os.DirFS(m.records()))
	if !errors.Is(err, seal.ErrNoRecord) {
		m.must(err)
	}
	refused := byNobody
	for _, s := range records {
		r, err := seal.Parse(s.Bytes)
		m.must(err)
		if r.Version != m.family {
			continue
		}
		b, err := c.Chip.Backend(r.Anchor)
		m.must(err)
		for i := range r.States {
			_, err := b.Unseal(r, i, nil)
			if err == nil {
				return byProgram
			}
			refused = byTPM
			if want := returnCodes[m.family][cause]; want != nil && !errors.Is(err, want) {
				m.t.Errorf("the TPM refuses with %v, not with %v", err, want)
			}
		}
	}
	return refused
}

// returnCodes are what the TPMs answer with where nothing but the cause is in the way.
var returnCodes = map[tpm.Version]map[aem.Cause]error{
	tpm.V20: {
		aem.CauseChanged: gotpm.TPMRCValue, aem.CauseNotLaunched: gotpm.TPMRCValue, aem.CauseAlready: gotpm.TPMRCValue, // TPM2_PolicyPCR
		aem.CauseStale: gotpm.TPMRCPolicy, // TPM2_PolicyNV
	},
	tpm.V12: {
		aem.CauseChanged: tpm12.ErrWrongPCR, aem.CauseNotLaunched: tpm12.ErrWrongPCR, aem.CauseAlready: tpm12.ErrWrongPCR,
	},
}

// save remembers the machine, which is off, but for its TPM's state, which nobody can put
// back. It returns what is in its home folder, and how to undo what is done to the rest.
func (m *machine) save() (home map[string]string, undo func()) {
	m.t.Helper()
	m.off()
	saved, medium := *m, m.contents(m.medium)
	saved.disks = slices.Clone(m.disks)
	return m.contents(m.homeDir()), func() {
		m.off()
		*m = saved
		m.putBack(m.medium, medium)
	}
}
