package store_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"

	"github.com/antievilmaid/aem/vtpm/store"
)

// A store that was written when format 1 was made, with three vTPMs, at epoch 44.
const golden = "testdata/format1.vtpms"

func TestAStoreOfFormat1StillOpens(t *testing.T) {
	file, err := os.ReadFile(golden)
	must(t, err)
	s := &safe{t: t, path: filepath.Join(folder(t), "vtpms"), root: newCounter()}
	s.root.value = 44
	must(t, os.WriteFile(s.path, file, 0o600))
	s.open()
	defer s.Close()
	for i := range 3 {
		want := guest(i)
		want.Generation = 1
		if i == 2 {
			want.Generation, want.State = 2, state(2, 2)
		}
		got, err := s.Get(uuid(i))
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-written +read)\n%s", diff)
		}
	}
}

// The bytes stand where docs/formats/vtpm-store.md says.
func TestTheBytesStandWhereTheDocumentSays(t *testing.T) {
	db, err := bolt.Open(golden, 0o600, &bolt.Options{ReadOnly: true})
	must(t, err)
	defer db.Close()
	u := uuid(2)
	must(t, db.View(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte("vtpms"))
		top, record, state := b.Get([]byte("top")), b.Get(key('r', u)), b.Get(key('s', u))
		if len(top) != 162 || string(top[:10]) != "AEMVTPMS\x00\x01" || binary.BigEndian.Uint64(top[42:]) != 44 || binary.BigEndian.Uint64(top[58:]) != 3 {
			t.Errorf("the root record is %x", top)
		}
		if record[0] != 1 || record[1] != 20 || binary.BigEndian.Uint32(record[2:]) != 5 || !bytes.Equal(record[6:22], u[:]) ||
			binary.BigEndian.Uint64(record[22:]) != 2 || binary.BigEndian.Uint64(record[38:]) != uint64(born.Unix()) ||
			int(binary.BigEndian.Uint32(record[54:])) != len(guest(2).State) {
			t.Errorf("the record is %x", record)
		}
		inBox := store.KeySize + 1 + len(guest(2).Name) + 4 + len(guest(2).Config)
		if len(record) != 90+12+inBox+16 || len(state) != 25+12+len(guest(2).State)+16 {
			t.Errorf("the record has %d bytes, the state %d", len(record), len(state))
		}
		if state[0] != 1 || !bytes.Equal(state[1:17], u[:]) || binary.BigEndian.Uint64(state[17:]) != 2 {
			t.Errorf("the state is %x", state[:25])
		}
		node := b.Get(append([]byte{'n'}, make([]byte, 17)...))
		if len(node) != 1+49*int(node[0]) {
			t.Errorf("the top node is %x", node)
		}
		return nil
	}))
}
