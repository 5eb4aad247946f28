package tpm12_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
)

// forger is a TPM that knows the passwords and proves every answer right, so
// that what an answer says reaches the code behind the HMACs: a chip that is
// broken, or one that somebody made.
type forger struct {
	auth   tpm12.Auth
	osap   *[20]byte // the shared secret, while a session of that kind is open
	params []byte    // of every answer
}

// sessionsOf tells how many sessions a command carries, by its tag.
func sessionsOf(cmd []byte) int { return int(cmd[1] - 0xc1) }

func (f *forger) Send(cmd []byte) ([]byte, error) {
	ord := cmd[6:10]
	nonce := make([]byte, 20)
	switch binary.BigEndian.Uint32(ord) {
	case ordOIAP:
		f.osap = nil
		return response(0xc4, 0, append([]byte{0, 0, 0, 1}, nonce...)), nil
	case ordOSAP:
		m := hmac.New(sha1.New, f.auth[:])
		m.Write(nonce)
		m.Write(cmd[len(cmd)-20:])
		f.osap = (*[20]byte)(m.Sum(nil))
		return response(0xc4, 0, append([]byte{0, 0, 0, 1}, append(nonce, nonce...)...)), nil
	case ordReadPubek:
		sum := sha1.Sum(append(bytes.Clone(f.params), cmd[10:]...))
		return response(0xc4, 0, append(bytes.Clone(f.params), sum[:]...)), nil
	}
	n := sessionsOf(cmd)
	out := bytes.Clone(f.params)
	digest := sha1.Sum(append(append(make([]byte, 4), ord...), f.params...))
	for i := range n {
		key := f.auth[:]
		if f.osap != nil {
			key = f.osap[:]
		}
		// A session in a command: handle, nonceOdd, flag, HMAC.
		odd := cmd[len(cmd)-45*(n-i)+4:][:20]
		m := hmac.New(sha1.New, key)
		m.Write(digest[:])
		m.Write(nonce)
		m.Write(odd)
		m.Write([]byte{0})
		out = append(append(append(out, nonce...), 0), m.Sum(nil)...)
	}
	return response(0xc4+uint16(n), 0, out), nil
}

const ordOSAP = 0x0b

// TestTheForgerIsBelieved keeps the fuzz target honest: were its HMACs wrong,
// nothing behind them would ever be reached.
func TestTheForgerIsBelieved(t *testing.T) {
	got, err := tpm12.New(&forger{auth: pin, params: []byte{0, 0, 0, 2, 'h', 'i'}}).Unseal(pin, pin, blobShape())
	if err != nil || string(got) != "hi" {
		t.Errorf("AUTH2 under OIAP: %q, %v", got, err)
	}
	made, err := tpm12.New(&forger{auth: pin, params: []byte{0, 0, 0, 7, 0, 14, 'a', 'e', 'm', '0', 0, 0, 0, 9}}).
		CreateCounter(pin, pin, [4]byte{})
	if err != nil || made != (tpm12.Counter{Handle: 7, Value: 9}) {
		t.Errorf("AUTH1 under OSAP: %+v, %v", made, err)
	}
}

// blobShape passes for a blob as far as its lengths go.
func blobShape() []byte {
	return append([]byte{1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4}, "data"...)
}

// Whatever an answer says, even one whose HMACs are right, no command panics,
// and what it returns is within the bounds that it promises.
func FuzzProvenAnswer(f *testing.F) {
	for _, seed := range answers(f) {
		f.Add(seed)
	}
	f.Add([]byte{0, 0, 0, 2, 'h', 'i'})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, params []byte) {
		if len(params) > 8<<10 {
			return
		}
		chip := tpm12.New(&forger{auth: pin, params: params})
		if got, err := chip.Unseal(pin, pin, blobShape()); err == nil && len(got)+4 != len(params) {
			t.Errorf("%d bytes were unsealed out of %d", len(got), len(params))
		}
		(&tpm12.Release{PCRs: 1}).Fits(params)
		if blob, err := chip.Seal(pin, pin, nil, []byte("x")); err == nil && !bytes.Equal(blob, params) {
			t.Errorf("the blob is %x", blob)
		}
		for _, size := range []uint32{0, 4, 24} {
			if got, err := chip.NVReadAuth(1, 0, size, pin); err == nil && uint32(len(got)) != size {
				t.Errorf("%d bytes were read instead of %d", len(got), size)
			}
			if got, err := chip.NVRead(1, 0, size); err == nil && uint32(len(got)) != size {
				t.Errorf("%d bytes were read instead of %d", len(got), size)
			}
		}
		if banks, err := chip.ReadPCRs(tpm.PCRSet(17)); err == nil && len(banks[0].Values[17]) != 20 {
			t.Errorf("PCR 17 has %d bytes", len(banks[0].Values[17]))
		}
		if name, err := chip.Manufacturer(); err == nil && len(name) > 4 {
			t.Errorf("the manufacturer's name is %q", name)
		}
		if area, err := chip.NVLookUp(1); err == nil && area.Index != 1 {
			t.Errorf("asked about area 1, told of %+v", area)
		}
		chip.ReadEK()
		chip.OwnerReadEK(pin)
		chip.TakeOwnership(pin, pin)
		chip.Owned()
		chip.NVIndices()
		chip.NVLocked()
		chip.CreateCounter(pin, pin, [4]byte{})
		chip.IncrementCounter(1, pin)
		chip.ReadCounter(1)
		chip.Defence()
	})
}

// answers are what a real TPM says to the commands above, without the HMACs.
func answers(f *testing.F) (list [][]byte) {
	c, _ := testbed.NewTPM(f, tpm.V12)
	chip := tpm12.New(tapped{c, &list})
	run := []error{
		second(chip.ReadEK()), chip.TakeOwnership(pin, pin), second(chip.OwnerReadEK(pin)),
		second(chip.Owned()), second(chip.Manufacturer()), second(chip.Defence()), second(chip.NVLocked()),
		chip.NVDefine(pin, tpm12.NVArea{Index: 1, Size: 24, Permissions: tpm12.PermAuthWrite}, pin),
		second(chip.NVIndices()), second(chip.NVLookUp(1)), second(chip.NVRead(1, 0, 24)),
		second(chip.ReadPCRs(tpm.PCRSet(17))), second(chip.Seal(pin, pin, nil, []byte("x"))),
	}
	made, err := chip.CreateCounter(pin, pin, [4]byte{})
	for _, err := range append(run, err, second(chip.ReadCounter(made.Handle))) {
		if err != nil {
			f.Fatal(err)
		}
	}
	if len(list) < len(run) {
		f.Fatalf("there are %d seeds for %d commands", len(list), len(run))
	}
	return list
}

type tapped struct {
	tpm.Channel
	list *[][]byte
}

func (t tapped) Send(cmd []byte) ([]byte, error) {
	rsp, err := t.Channel.Send(cmd)
	if err == nil {
		params := rsp[10 : len(rsp)-41*sessionsOf(cmd)]
		if binary.BigEndian.Uint32(cmd[6:]) == ordReadPubek {
			params = params[:len(params)-20]
		}
		*t.list = append(*t.list, bytes.Clone(params))
	}
	return rsp, err
}
