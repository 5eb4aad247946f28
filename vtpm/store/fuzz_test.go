package store

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
)

var fuzzKeys = &keys{secret: make([]byte, 32)}

func fuzzRecord() *Record {
	return &Record{UUID: vtpm.UUID{1}, Family: tpm.V20, Key: make([]byte, KeySize), Generation: 3, Name: "guest", Config: []byte("{}")}
}

// The header of a record as anybody can write it.
func FuzzHeader(f *testing.F) {
	f.Add(fuzzKeys.seal(fuzzRecord(), 9, 5, digest{1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHeader(b)
		if err == nil && !bytes.Equal(h.encode(), b[:headerSize]) {
			t.Error("what was read does not write the same bytes")
		}
		fuzzKeys.open(b)
	})
}

// What is in a record's box, as a later program may have written it.
func FuzzSecret(f *testing.F) {
	secret, err := decrypt(fuzzKeys.derive(labelRecord, vtpm.UUID{1}), fuzzSealed[:headerSize], fuzzSealed[headerSize:])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(secret)
	f.Fuzz(func(t *testing.T, b []byte) {
		var r Record
		if err := r.parseSecret(b); err == nil && len(b) != KeySize+1+len(r.Name)+4+len(r.Config) {
			t.Errorf("of %d bytes, %d and %d were read", len(b), len(r.Name), len(r.Config))
		}
	})
}

var fuzzSealed = fuzzKeys.seal(fuzzRecord(), 9, 5, digest{1})

func FuzzState(f *testing.F) {
	f.Add(fuzzKeys.sealState(vtpm.UUID{1}, 3, []byte("state")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if u, g, s, err := fuzzKeys.openState(b); err == nil && (u != vtpm.UUID{1} || g != 3 || string(s) != "state") {
			t.Errorf("a forged state of %s was taken", u)
		}
	})
}

// The root record, with the checksum mended that only tells damage.
func FuzzRoot(f *testing.F) {
	key := make([]byte, KeySize)
	r := rootRecord{epoch: 4, sequence: 5, count: 6, top: digest{7}}
	r.key, _ = keyName(key)
	k, err := newKeys(key, r.store)
	if err != nil {
		f.Fatal(err)
	}
	mac := k.derive(labelRoot, vtpm.UUID{})
	whole := r.encode(mac)
	if got, _, err := openRoot(whole, key); err != nil || *got != r {
		f.Fatalf("%+v, %v", got, err)
	}
	f.Add(whole[:rootSize-sha256.Size])
	f.Fuzz(func(t *testing.T, b []byte) {
		sum := sha256.Sum256(b)
		forged := append(bytes.Clone(b), sum[:]...)
		if got, _, err := openRoot(forged, key); err == nil && *got != r {
			t.Errorf("a forged root was taken: %+v", got)
		}
		if got, err := parseRoot(forged); err == nil && !bytes.Equal(got.encode(mac)[:rootBody], b[:rootBody]) {
			t.Error("what was read does not write the same bytes")
		}
	})
}

func FuzzNode(f *testing.F) {
	top := &node{slots: []slot{{placeOf(vtpm.UUID{0x12}, 3), digest{1}}, {placeOf(vtpm.UUID{0xf0}, leafLength), digest{2}}}}
	f.Add(uint8(0), top.encode())
	below := &node{place: placeOf(vtpm.UUID{0x12}, 3), slots: []slot{{placeOf(vtpm.UUID{0x12, 0x01}, leafLength), digest{1}}, {placeOf(vtpm.UUID{0x12, 0x02}, leafLength), digest{2}}}}
	f.Add(uint8(3), below.encode())
	for _, n := range []*node{top, below} {
		if got, err := parseNode(n.place, n.encode()); err != nil || len(got.slots) != 2 {
			f.Fatalf("a seed can't be read: %v", err)
		}
	}
	f.Fuzz(func(t *testing.T, length uint8, b []byte) {
		p := placeOf(vtpm.UUID{0x12}, min(length, leafLength-1))
		n, err := parseNode(p, b)
		if err != nil {
			return
		}
		if !bytes.Equal(n.encode(), b) {
			t.Error("what was read does not write the same bytes")
		}
		for i, s := range n.slots {
			if j, ok := n.find(s.at); !ok || i != j {
				t.Errorf("slot %d is found at %d", i, j)
			}
		}
	})
}

// memoryRoot is a Root for files that are not to be opened.
type memoryRoot struct{ epoch uint64 }

func (*memoryRoot) Key() ([]byte, error)     { return make([]byte, KeySize), nil }
func (m *memoryRoot) Epoch() (uint64, error) { return m.epoch, nil }
func (m *memoryRoot) Advance(uint64) error   { m.epoch++; return nil }

// A whole file with some bytes replaced: whatever the pages say, there is an answer.
func FuzzFile(f *testing.F) {
	dir, err := os.MkdirTemp("/dev/shm", "vtpm-fuzz-")
	if err != nil {
		dir = f.TempDir()
	}
	f.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "vtpms")
	root := &memoryRoot{}
	if err := Create(path, root); err != nil {
		f.Fatal(err)
	}
	s, err := Open(path, root)
	if err != nil {
		f.Fatal(err)
	}
	for i := range byte(20) {
		r := fuzzRecord()
		r.UUID[0], r.Generation, r.State = i, 0, make([]byte, 500)
		r.UUID[15] = 1
		if err := s.Add(r); err != nil {
			f.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(2*pageSize), []byte{1, 2, 3, 4})
	f.Add(uint32(3*pageSize+8), []byte{1, 0, 255})
	f.Fuzz(func(t *testing.T, at uint32, b []byte) {
		spoilt := bytes.Clone(file)
		copy(spoilt[int(at)%len(spoilt):], b)
		path := filepath.Join(t.TempDir(), "vtpms")
		if err := os.WriteFile(path, spoilt, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(path, &memoryRoot{root.epoch})
		if err != nil {
			return
		}
		defer s.Close()
		s.Verify(func(Fault) {})
		for i := range byte(20) {
			u := vtpm.UUID{i}
			u[15] = 1
			if r, err := s.Get(u); err == nil && (r.UUID != u || len(r.State) != 500) {
				t.Errorf("%s is read as %+v", u, r)
			}
		}
	})
}
