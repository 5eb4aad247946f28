package maid_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"path/filepath"
	"slices"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// recordFile is the path of the stick's one record.
func (m *machine) recordFile() string {
	m.t.Helper()
	files, err := filepath.Glob(filepath.Join(m.records(), "*"))
	m.must(err)
	if len(files) != 1 {
		m.t.Fatalf("the medium holds %d files", len(files))
	}
	return files[0]
}

// sampled are the bytes of a blob that are tried where each try costs time. The step is
// a number that no field's size is a multiple of.
func sampled(n, step int) []int {
	var list []int
	for i := 0; i < n; i += step {
		list = append(list, i)
	}
	return list
}

// flipRecord turns over every bit of the record, and has the machine look at a sample.
func (m *machine) flipRecord() (outcome, judge) {
	m.t.Helper()
	good := m.read(m.recordFile())
	for at := range good {
		for bit := range 8 {
			if _, err := seal.Parse(flip(good, at, bit)); !errors.Is(err, seal.ErrDamaged) {
				m.t.Errorf("with bit %d of byte %d flipped: %v", bit, at, err)
			}
		}
	}
	return m.tryRecords(func(try func([]byte) outcome) {
		for i, at := range sampled(len(good), 97) {
			try(flip(good, at, i%8))
		}
	})
}

// flipUnderChecksum turns over bits of the record and makes its checksum right again.
// Nothing in the record contradicts another handle of the storage key, another number
// of the counter or, for a TPM 1.2, another identification of the TPM: these are a line
// of their own.
func (m *machine) flipUnderChecksum() (outcome, judge) {
	m.t.Helper()
	good := m.read(m.recordFile())
	believed := m.believed(good)
	return m.tryRecords(func(try func([]byte) outcome) {
		for i, at := range sampled(len(good)-sha256.Size, 7) {
			if slices.Contains(believed, at) {
				continue
			}
			if o := try(mended(flip(good, at, i%8))); o.Cause != aem.CauseDamaged {
				m.t.Errorf("with bit %d of byte %d flipped: %s (%s)", i%8, at, o.Cause, o.said)
			}
		}
	})
}

// pointElsewhere has the record name another key, or for a TPM 1.2 another TPM.
func (m *machine) pointElsewhere() {
	m.t.Helper()
	good := m.read(m.recordFile())
	at := m.believed(good)
	m.write(m.recordFile(), mended(flip(good, at[3], 1)))
}

// believed are the places of those bytes by which a record says where in which TPM its
// key and its counter are, as far as nothing else in it says the same.
func (m *machine) believed(record []byte) (list []int) {
	m.t.Helper()
	r, err := seal.Parse(record)
	m.must(err)
	start := bytes.Index(record, r.Anchor)
	const name = 2 + 34 // of the TPM 2.0's counter, with its length before it
	for i := range r.Anchor {
		if m.family == tpm.V12 && i >= 3 || m.family == tpm.V20 && (i < 4 || i == len(r.Anchor)-name-1) {
			list = append(list, start+i)
		}
	}
	return list
}

// mended is a record with the checksum that its content has.
func mended(record []byte) []byte {
	sum := sha256.Sum256(record[:len(record)-sha256.Size])
	copy(record[len(record)-sha256.Size:], sum[:])
	return record
}

// tryRecords has one boot look at one record after the other, and then puts the good one back.
func (m *machine) tryRecords(each func(try func([]byte) outcome)) (outcome, judge) {
	m.t.Helper()
	file := m.recordFile()
	good := m.read(file)
	defer m.write(file, good)
	c := m.open(true)
	defer c.close()
	var last outcome
	each(func(record []byte) outcome {
		m.write(file, record)
		last = c.prove()
		c.InInitramfs = false // the disks are measured once
		if last.Secret != "" || last.Cause == aem.CauseNotAvailable {
			m.t.Errorf("%+v, %s", last, last.said)
		}
		return last
	})
	return last, byProgram
}

// flipKept turns over every bit of what the set-up keeps sealed, and has the owner
// approve and seal with a sample whose checksums are right.
func (m *machine) flipKept() (outcome, judge) {
	m.t.Helper()
	var seen outcome
	files, err := filepath.Glob(filepath.Join(m.homeDir(), "*.aem"))
	m.must(err)
	if len(files) < 2 {
		m.t.Errorf("the set-up keeps only %q", files)
	}
	m.tamperHome(func(sealAgain func() error) {
		for _, file := range files {
			good := m.read(file)
			for at := range good {
				for bit := range 8 {
					if _, err := seal.Parse(flip(good, at, bit)); !errors.Is(err, seal.ErrDamaged) {
						m.t.Errorf("%s, with bit %d of byte %d flipped: %v", filepath.Base(file), bit, at, err)
					}
				}
			}
			believed := m.believed(good)
			for i, at := range sampled(len(good)-sha256.Size, 31) {
				if slices.Contains(believed, at) {
					continue
				}
				m.write(file, mended(flip(good, at, i%8)))
				if seen = see(nil, sealAgain()); seen.Cause != aem.CauseDamaged {
					m.t.Errorf("%s, with bit %d of byte %d flipped: %s", filepath.Base(file), i%8, at, seen.said)
				}
			}
			m.write(file, good)
		}
	})
	return seen, byProgram
}

// flipSetup turns over bits of the set-up, which nothing authenticates: it lies on the
// encrypted root, and the boot does not read it. Whatever the owner does with it, the
// machine must go on proving itself.
func (m *machine) flipSetup() (outcome, judge) {
	m.t.Helper()
	file := filepath.Join(m.homeDir(), "setup.json")
	good := m.read(file)
	worked := 0
	o := m.tamperHome(func(sealAgain func() error) {
		for i, at := range sampled(len(good), 7) {
			m.write(file, flip(good, at, i%8))
			if sealAgain() == nil {
				worked++
			}
		}
	})
	if worked == 0 {
		m.t.Error("no change left the set-up usable: the sealing itself was never tried")
	}
	return o, ""
}

// tamperHome lets a machine that runs seal again and again with a set-up that is
// tampered with. After each time, with its set-up as it was, it must prove itself.
func (m *machine) tamperHome(each func(sealAgain func() error)) (last outcome) {
	m.t.Helper()
	home := m.contents(m.homeDir())
	records := m.contents(m.medium)
	c := m.open(true)
	defer c.close()
	if o := c.prove(); o.Secret != sentence {
		m.t.Fatalf("before anything was changed: %s", o.said)
	}
	c.InInitramfs = false // the disks are measured once
	states, err := c.Approved(m.home())
	m.must(err)
	each(func() error {
		_, err := c.Approved(m.home())
		if err == nil {
			_, err = c.Reseal(m.home(), states)
		}
		m.putBack(m.homeDir(), home)
		if last = c.prove(); last.Secret != sentence {
			m.t.Errorf("the owner sealed with what was tampered with (%v), and lost the secret: %s", err, last.said)
			m.putBack(m.medium, records)
		}
		return err
	})
	return last
}
