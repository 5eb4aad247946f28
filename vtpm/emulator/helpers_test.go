package emulator_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
	"github.com/antievilmaid/aem/tpm2"
	"github.com/antievilmaid/aem/vtpm/emulator"
)

var both = []tpm.Version{tpm.V12, tpm.V20}

// newHost finds the emulator and has a folder for those that get no file system of their own.
func newHost(t testing.TB) *emulator.Host {
	t.Helper()
	testbed.Need(t, "swtpm")
	h, err := emulator.NewHost(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// first12 is a TPM 1.2's first state: its endorsement key takes seconds on a machine under load.
var first12 []byte

// create makes a vTPM that is not running. TPMs 1.2 are all the same one.
func create(t testing.TB, h *emulator.Host, v tpm.Version) emulator.Config {
	t.Helper()
	cfg := emulator.Config{Version: v, Key: bytes.Repeat([]byte{7}, emulator.KeySize), UID: 20001, GID: 20001}
	if v == tpm.V12 && first12 != nil {
		cfg.State = first12
		return cfg
	}
	state, err := h.Create(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.State = state
	if v == tpm.V12 {
		first12 = state
	}
	return cfg
}

// start starts a vTPM and leaves it off.
func start(t testing.TB, h *emulator.Host, cfg emulator.Config) *emulator.Emulator {
	t.Helper()
	e, err := h.Start(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Kill)
	return e
}

// run starts a vTPM for a guest that inherits what is given.
func run(t testing.TB, h *emulator.Host, cfg emulator.Config, from emulator.Inheritance) *emulator.Emulator {
	t.Helper()
	e := start(t, h, cfg)
	if err := e.PowerOn(context.Background(), from); err != nil {
		t.Fatal(err)
	}
	return e
}

func stop(t testing.TB, e *emulator.Emulator) []byte {
	t.Helper()
	if err := e.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	return e.State()
}

// guest sends commands as a guest at a locality does, and notes whether one changed the state.
type guest struct {
	e       *emulator.Emulator
	at      tpm.Locality
	changed bool
}

func (g *guest) Send(command []byte) ([]byte, error) {
	rsp, changed, err := g.e.Execute(context.Background(), g.at, command)
	g.changed = g.changed || changed
	return rsp, err
}

func packet(tag uint16, command uint32, body ...byte) []byte {
	p := binary.BigEndian.AppendUint16(nil, tag)
	p = binary.BigEndian.AppendUint32(p, uint32(10+len(body)))
	return append(binary.BigEndian.AppendUint32(p, command), body...)
}

// ask sends a command at locality 0 and returns the response's code.
func ask(t testing.TB, e *emulator.Emulator, command []byte) uint32 {
	t.Helper()
	rsp, _, err := e.Execute(context.Background(), 0, command)
	if err != nil {
		t.Fatal(err)
	}
	return binary.BigEndian.Uint32(rsp[6:])
}

func random(v tpm.Version) []byte {
	if v == tpm.V20 {
		return packet(0x8001, 0x17b, 0, 8)
	}
	return packet(0xc1, 0x46, 0, 0, 0, 8)
}

// readPCRs reads a vTPM's PCRs as its guest does.
func readPCRs(t testing.TB, e *emulator.Emulator, v tpm.Version, list ...tpm.PCR) tpm.Banks {
	t.Helper()
	read := tpm12.New(&guest{e: e}).ReadPCRs
	if v == tpm.V20 {
		read = tpm2.New(&guest{e: e}).ReadPCRs
	}
	banks, err := read(tpm.PCRSet(list...))
	if err != nil {
		t.Fatal(err)
	}
	return banks
}

// identity is what tells a vTPM from any other: its endorsement key's name, or public part.
func identity(t testing.TB, e *emulator.Emulator, v tpm.Version) string {
	t.Helper()
	if v == tpm.V20 {
		name, err := tpm2.New(&guest{e: e}).EndorsementName()
		if err != nil {
			t.Fatal(err)
		}
		return string(name)
	}
	ek, err := tpm12.New(&guest{e: e}).ReadEK()
	if err != nil {
		t.Fatal(err)
	}
	return string(ek)
}

func digests(v tpm.Version, data string) []tpm.TaggedDigest {
	if v == tpm.V12 {
		return tpm.SumAll([]tpm.Alg{tpm.SHA1}, []byte(data))
	}
	return tpm.SumAll([]tpm.Alg{tpm.SHA1, tpm.SHA256, tpm.SHA384, tpm.SHA512}, []byte(data))
}

// entries are the names in a folder.
func entries(t testing.TB, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, filepath.Base(e.Name()))
	}
	return names
}
