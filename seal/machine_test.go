package seal_test

import (
	"errors"
	"testing"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
	"github.com/antievilmaid/aem/tpm2"
)

var pcrs = tpm.PCRSet(13, 17, 18)

// machine is an emulated TPM of either family, with what a test does to it.
type machine struct {
	t          *testing.T
	conn       *swtpm.TPM
	emulator   *testbed.Emulator
	version    tpm.Version
	credential []byte
}

// eachFamily runs a test once for each TPM family, on a TPM that was launched with "image".
func eachFamily(t *testing.T, test func(t *testing.T, m *machine)) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			m := newMachine(t, v)
			m.launch("image")
			test(t, m)
		})
	}
}

func newMachine(t *testing.T, v tpm.Version) *machine {
	conn, emulator := testbed.NewTPM(t, v)
	return &machine{t: t, conn: conn, emulator: emulator, version: v}
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// launch restarts the machine and launches an image: PCR 17 holds it, PCR 18 its data.
func (m *machine) launch(image string) {
	m.t.Helper()
	m.restart()
	m.must(m.conn.Launch([]byte(image)))
	m.must(m.conn.SetLocality(2))
	m.extend(18, "data")
	m.must(m.conn.SetLocality(0))
}

func (m *machine) restart() {
	m.t.Helper()
	m.must(testbed.PowerOff(m.conn, m.version))
	m.must(testbed.PowerOn(m.conn, m.version))
}

func (m *machine) extend(p tpm.PCR, data string) {
	m.t.Helper()
	if m.version == tpm.V12 {
		m.must(tpm12.New(m.conn).Extend(p, tpm.SumAll([]tpm.Alg{tpm.SHA1}, []byte(data))))
		return
	}
	chip := tpm2.New(m.conn)
	algs, err := chip.PCRBanks()
	m.must(err)
	m.must(chip.Extend(p, tpm.SumAll(algs, []byte(data))))
}

func (m *machine) values() tpm.Banks {
	m.t.Helper()
	banks, err := readPCRs(m.conn, m.version)
	m.must(err)
	return banks
}

func readPCRs(ch tpm.Channel, v tpm.Version) (tpm.Banks, error) {
	if v == tpm.V12 {
		return tpm12.New(ch).ReadPCRs(pcrs)
	}
	return tpm2.New(ch).ReadPCRs(pcrs)
}

// openBackend finds the backend for an anchor.
func openBackend(ch tpm.Channel, v tpm.Version, anchor []byte) (seal.Backend, error) {
	if v == tpm.V12 {
		return seal.OpenTPM12(tpm12.New(ch), anchor)
	}
	return seal.OpenTPM2(tpm2.New(ch), anchor)
}

// provision prepares the TPM for a medium.
func (m *machine) provision() seal.Backend {
	m.t.Helper()
	if m.version == tpm.V12 {
		b, c, err := seal.ProvisionTPM12(tpm12.New(m.conn), nil)
		m.must(err)
		m.credential = c.Bytes()
		return b
	}
	b, err := seal.ProvisionTPM2(tpm2.New(m.conn), nil)
	m.must(err)
	return b
}

// open is how a boot finds the backend for a record.
func (m *machine) open(r *seal.Record) (seal.Backend, error) {
	if r.Version != m.version {
		return nil, seal.ErrOtherFamily
	}
	return openBackend(m.conn, m.version, r.Anchor)
}

// stateOf computes the boot state that a launch of image leads to, without a TPM.
func stateOf(t *testing.T, v tpm.Version, image string) seal.State {
	t.Helper()
	s := seal.State{Label: image, PCRs: pcrs, Values: tpm.Banks{{Alg: tpm.SHA256}, {Alg: tpm.SHA384}}}
	if v == tpm.V12 {
		s.Values = tpm.Banks{{Alg: tpm.SHA1}}
	}
	for i := range s.Values {
		b := &s.Values[i]
		b.Reset(pcrs, true)
		if err := errors.Join(b.Extend(17, b.Alg.Sum([]byte(image))), b.Extend(18, b.Alg.Sum([]byte("data")))); err != nil {
			t.Fatal(err)
		}
	}
	s.Measured = []seal.Measurement{
		{Name: "launched image", PCR: 17, Digests: tpm.SumAll(s.Values.Algs(), []byte(image))},
		{Name: "data", PCR: 18, Digests: tpm.SumAll(s.Values.Algs(), []byte("data"))},
	}
	return s
}

const sentence = "the lighthouse keeper sleeps on Tuesdays"

// record makes a record for the generation after the backend's present one.
func (m *machine) record(b seal.Backend, pin string, images ...string) *seal.Record {
	m.t.Helper()
	now, err := b.Generation()
	m.must(err)
	r := &seal.Record{Kind: seal.KindText, PIN: pin != "", Generation: now + 1, Medium: seal.MediumID{1, 2, 3}}
	for _, image := range images {
		r.States = append(r.States, stateOf(m.t, m.version, image))
	}
	m.must(seal.Seal(b, r, []byte(sentence), []byte(pin)))
	return r
}

// wantOpen opens a record as a boot does, from its bytes.
func (m *machine) wantOpen(file []byte, pin string, want error) {
	m.t.Helper()
	secret, err := m.try(file, pin)
	switch {
	case want == nil && (err != nil || string(secret) != sentence):
		m.t.Errorf("it opened to %q, %v", secret, err)
	case want != nil && !errors.Is(err, want):
		m.t.Errorf("opening gave %q, %v; want: %v", secret, err, want)
	}
}

func (m *machine) try(file []byte, pin string) ([]byte, error) {
	r, err := seal.Parse(file)
	if err != nil {
		return nil, err
	}
	b, err := m.open(r)
	if err != nil {
		return nil, err
	}
	return r.Open(b, m.values(), []byte(pin))
}
