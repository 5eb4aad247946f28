package maid_test

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"

	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
)

// putRecords puts other records in the place of those on the stick.
func (m *machine) putRecords(from string) {
	m.t.Helper()
	m.must(os.RemoveAll(m.records()))
	m.must(os.CopyFS(m.records(), os.DirFS(from)))
}

// ownerSealsAgain boots, seals once more, and leaves a copy of the stick as it was before.
func (m *machine) ownerSealsAgain() {
	m.t.Helper()
	m.old = filepath.Join(m.dir, "copy", filepath.Base(m.records()))
	m.must(os.CopyFS(m.old, os.DirFS(m.records())))
	m.boot()
	if o := m.prove(); o.Secret != sentence {
		m.t.Fatalf("the owner's own boot: %+v", o)
	}
	c := m.open(false)
	defer c.close()
	c.seal()
}

// forgeLaunch extends everything that a launch measures, at the locality that a
// launched kernel has, without a launch. The log is that of the real launch.
func (m *machine) forgeLaunch() {
	m.t.Helper()
	measurements, err := m.files.Measurements()
	m.must(err)
	m.connected(func(c *swtpm.TPM) {
		for _, s := range measurements {
			if s.Extended() {
				m.must(testbed.Extend(c, m.family, 2, s.PCR, s.Digests))
			}
		}
	})
	m.write(m.logFile(), m.goodLog())
}

// goodLog is the log of a launch of the machine's files.
func (m *machine) goodLog() []byte {
	m.t.Helper()
	measurements, err := m.files.Measurements()
	m.must(err)
	log, err := drtm.BuildLog(m.platform, m.family, m.files.Algs, measurements)
	m.must(err)
	b, err := log.AppendTo(nil)
	m.must(err)
	return b
}

// launchAndProve is a boot that has come to its proof.
func (m *machine) launchAndProve() {
	m.t.Helper()
	m.launchFiles()
	if o := m.prove(); o.Secret != sentence {
		m.t.Fatalf("the boot's own proof: %+v", o)
	}
}

// withOtherDigest forges the last event that was measured.
func (m *machine) withOtherDigest(log []byte) []byte {
	m.t.Helper()
	l, err := eventlog.Parse(log)
	m.must(err)
	for i := len(l.Events) - 1; i >= 0; i-- {
		if e := &l.Events[i]; e.Extended() {
			for j, d := range e.Digests {
				e.Digests[j].Digest = d.Alg.Sum([]byte("forged"))
			}
			break
		}
	}
	b, err := l.AppendTo(nil)
	m.must(err)
	return b
}

// cutShort ends the log inside its last event but one.
func (m *machine) cutShort(log []byte) []byte {
	m.t.Helper()
	l, err := eventlog.Parse(log)
	m.must(err)
	return log[:l.Events[len(l.Events)-1].Offset-5]
}

// exchangeTPM takes another machine's TPM in the place of this one's.
func (m *machine) exchangeTPM(other *machine) {
	m.t.Helper()
	m.family, m.files = other.family, other.files
	m.tpm = tpmFolder(m.t)
	m.copyTPM(other.tpm)
}

func (k kind) otherFamily() kind {
	if k.family == tpm.V20 {
		return kind{tpm.V12, k.platform}
	}
	return kind{tpm.V20, k.platform}
}

// inTheFirmware does something to the TPM of a machine that has booted nothing.
func (m *machine) inTheFirmware(do func(c *swtpm.TPM)) {
	m.t.Helper()
	m.on()
	defer m.off()
	m.connected(do)
}

// refuses demands that a TPM 1.2 does not do what it is told without a password.
func (m *machine) refuses(c *swtpm.TPM, cmd []byte) {
	m.t.Helper()
	rsp, err := c.Send(cmd)
	m.must(err)
	if binary.BigEndian.Uint32(rsp[6:]) == 0 {
		m.t.Errorf("the TPM takes %x from anybody", cmd)
	}
}

// moveCounter counts the owner's counter up, which the empty password of a TPM 2.0's owner
// allows. That of a TPM 1.2 has a password.
func (m *machine) moveCounter() {
	m.t.Helper()
	m.inTheFirmware(func(c *swtpm.TPM) {
		if m.family == tpm.V20 {
			m.must(tpm2.New(c).Increment(0x0180ae00, nil))
			return
		}
		m.refuses(c, slices.Concat( // TPM_NV_WriteValue, at the place of the number
			[]byte{0, 0xc1, 0, 0, 0, 30, 0, 0, 0, 0xcd, 0, 0, 0xae, 0, 0, 0, 0, 16, 0, 0, 0, 8},
			[]byte{0, 0, 0, 0, 0, 0, 0, 9}))
	})
}

// evictKey takes the storage key out of the TPM, which the empty password allows, too.
func (m *machine) evictKey() {
	m.t.Helper()
	m.inTheFirmware(func(c *swtpm.TPM) {
		if m.family == tpm.V12 {
			m.refuses(c, []byte{0, 0xc1, 0, 0, 0, 14, 0, 0, 0, 0x22, 0x40, 0, 0, 0}) // TPM_EvictKey
			return
		}
		key, err := tpm2.New(c).FindStorageKey()
		m.must(err)
		m.must(tpm2.New(c).RemoveKey(key, nil))
	})
}

// sealAnew is what the owner does about a counter that somebody moved.
func (m *machine) sealAnew() {
	m.t.Helper()
	m.boot()
	c := m.open(false)
	defer c.close()
	c.seal()
}

// clearTPM clears the TPM as the firmware's setup does.
func (m *machine) clearTPM() {
	m.t.Helper()
	m.inTheFirmware(func(c *swtpm.TPM) {
		if m.family == tpm.V20 {
			_, err := gotpm.Clear{AuthHandle: gotpm.TPMRHPlatform}.Execute(c)
			m.must(err)
			return
		}
		// TSC_PhysicalPresence: allow commands to assert presence, assert it; TPM_ForceClear;
		// then the TPM is disabled until it is enabled and activated again.
		for _, cmd := range [][]byte{
			{0, 0xc1, 0, 0, 0, 12, 0x40, 0, 0, 0x0a, 0, 0x20},
			{0, 0xc1, 0, 0, 0, 12, 0x40, 0, 0, 0x0a, 0, 0x08},
			{0, 0xc1, 0, 0, 0, 10, 0, 0, 0, 0x5d},
			{0, 0xc1, 0, 0, 0, 10, 0, 0, 0, 0x6f},
			{0, 0xc1, 0, 0, 0, 11, 0, 0, 0, 0x72, 0},
		} {
			rsp, err := c.Send(cmd)
			m.must(err)
			if rc := binary.BigEndian.Uint32(rsp[6:]); rc != 0 {
				m.t.Fatalf("clearing: command %x was answered with %#x", cmd, rc)
			}
		}
	})
}
