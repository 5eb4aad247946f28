package tpm12_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
)

const index = 0xae10

func TestTheOwnersNVArea(t *testing.T) {
	_, chip := owned(t, "image")
	ok(t, chip.NVLock()) // without it, the owner's password is not asked for
	area := tpm12.NVArea{Index: index, Size: 8, Permissions: tpm12.PermOwnerWrite | tpm12.PermOwnerRead}
	ok(t, chip.NVDefine(owner, area, tpm12.WellKnown))
	ok(t, chip.NVWriteOwner(index, 0, []byte("abcdefgh"), owner))
	ok(t, chip.NVWriteOwner(index, 2, []byte("CD"), owner))
	if got, err := chip.NVReadOwner(index, 1, 4, owner); err != nil || string(got) != "bCDe" {
		t.Errorf("a part of it is %q, %v", got, err)
	}
	refused(t, "read with another password", second(chip.NVReadOwner(index, 0, 8, wrong)), tpm12.ErrAuthFail)
	refused(t, "write with another password", chip.NVWriteOwner(index, 0, []byte("x"), wrong), tpm12.ErrAuthFail)
	refused(t, "read with the area's password", second(chip.NVReadAuth(index, 0, 8, tpm12.WellKnown)), tpm12.ErrAuthConflict)
	refused(t, "read beyond the end", second(chip.NVReadOwner(index, 5, 4, owner)), tpm12.ErrNoSpace)
}

func TestNVLookUpTellsWhatAnAreaIsLike(t *testing.T) {
	_, chip := owned(t, "image")
	want := tpm12.NVArea{Index: index, Size: 24, Permissions: tpm12.PermAuthWrite | tpm12.PermReadSTClear}
	ok(t, chip.NVDefine(owner, want, pin))
	if got, err := chip.NVLookUp(index); err != nil || got != want {
		t.Errorf("the area is %+v, %v; want %+v", got, err, want)
	}
	refused(t, "an area that nobody defined", second(chip.NVLookUp(index+1)), tpm12.ErrBadIndex)
	refused(t, "delete an area that nobody defined", chip.NVUndefine(owner, index+1), tpm12.ErrBadIndex)
	if list, err := chip.NVIndices(); err != nil || !slices.Contains(list, index) || slices.Contains(list, index+1) {
		t.Errorf("the areas are %#x, %v", list, err)
	}
}

func TestReadingNothingHidesAnAreaUntilTheRestart(t *testing.T) {
	c, chip := owned(t, "image")
	area := tpm12.NVArea{Index: index, Size: 4, Permissions: tpm12.PermAuthWrite | tpm12.PermAuthRead | tpm12.PermReadSTClear}
	ok(t, chip.NVDefine(owner, area, pin))
	ok(t, chip.NVWriteAuth(index, 0, []byte("data"), pin))
	ok(t, second(chip.NVReadAuth(index, 0, 0, pin)))
	refused(t, "after it was hidden", second(chip.NVReadAuth(index, 0, 4, pin)), tpm12.ErrDisabledCommand)
	ok(t, testbed.PowerOn(c, tpm.V12))
	if got, err := chip.NVReadAuth(index, 0, 4, pin); err != nil || string(got) != "data" {
		t.Errorf("after a restart: %q, %v", got, err)
	}
}

// What would lock, delete or be cut short by accident is refused before the TPM sees it.
func TestNVMistakesDoNotReachTheTPM(t *testing.T) {
	chip := tpm12.New(fake(func([]byte) []byte { t.Error("the TPM was asked"); return nil }))
	for name, err := range map[string]error{
		"an empty area, which deletes": chip.NVDefine(owner, tpm12.NVArea{Index: index}, pin),
		"a huge area":                  chip.NVDefine(owner, tpm12.NVArea{Index: index, Size: 1 << 20}, pin),
		"an empty write, which locks":  chip.NVWriteAuth(index, 0, nil, pin),
		"a huge write":                 chip.NVWriteAuth(index, 0, make([]byte, 1<<16), pin),
		"a huge read":                  second(chip.NVRead(index, 0, 1<<31)),
		"a far read":                   second(chip.NVReadAuth(index, 1<<31, 1, pin)),
	} {
		if err == nil {
			t.Errorf("%s was not refused", name)
		}
	}
}

// A command without a session: what somebody sends who knows no password.
func withoutAuth(t *testing.T, c tpm.Channel, ordinal byte, body ...[]byte) uint32 {
	t.Helper()
	b := slices.Concat(body...)
	rsp, err := c.Send(slices.Concat([]byte{0, 0xc1, 0, 0, 0, byte(10 + len(b)), 0, 0, 0, ordinal}, b))
	ok(t, err)
	return binary.BigEndian.Uint32(rsp[6:])
}

func deleteWithoutAuth(t *testing.T, c tpm.Channel) uint32 {
	t.Helper()
	anyState := slices.Concat([]byte{0, 3, 0, 0, 0, 0x1f}, make([]byte, 20))
	return withoutAuth(t, c, 0xcc, []byte{0, 0x18, 0, 0, index >> 8, index & 0xff}, anyState, anyState,
		[]byte{0, 0x17, 0, 0, 0, 2}, make([]byte, 3+4+20))
}

func writeWithoutAuth(t *testing.T, c tpm.Channel, data string) uint32 {
	t.Helper()
	return withoutAuth(t, c, 0xcd, []byte{0, 0, index >> 8, index & 0xff, 0, 0, 0, 0, 0, 0, 0, byte(len(data))}, []byte(data))
}

// Premise: an area with an authorisation value of its own is written by nobody
// else, but until the TPM's NV memory is locked anybody deletes it, and may put
// one of his own in its place.
func TestAreasAreSafeOnceNVMemoryIsLocked(t *testing.T) {
	c, chip := owned(t, "image")
	area := tpm12.NVArea{Index: index, Size: 4, Permissions: tpm12.PermAuthWrite}
	ok(t, chip.NVDefine(owner, area, pin))
	if locked, err := chip.NVLocked(); err != nil || locked {
		t.Fatalf("the emulator comes locked: %t, %v", locked, err)
	}
	if rc := tpm12.Error(writeWithoutAuth(t, c, "evil")); rc != tpm12.ErrAuthConflict {
		t.Errorf("before the lock, a write without a password: %v", rc)
	}
	if rc := deleteWithoutAuth(t, c); rc != 0 {
		t.Errorf("before the lock, a deletion without a password: %v", tpm12.Error(rc))
	}
	refused(t, "the area that anybody deleted", second(chip.NVLookUp(index)), tpm12.ErrBadIndex)

	ok(t, chip.NVDefine(owner, area, pin))
	ok(t, chip.NVLock())
	if locked, err := chip.NVLocked(); err != nil || !locked {
		t.Errorf("after the lock: %t, %v", locked, err)
	}
	if rc := deleteWithoutAuth(t, c); rc == 0 {
		t.Error("after the lock, anybody deletes an area")
	}
	ok(t, testbed.PowerOn(c, tpm.V12))
	if rc := deleteWithoutAuth(t, c); rc == 0 {
		t.Error("after a restart the lock is gone")
	}
	ok(t, chip.NVWriteAuth(index, 0, []byte("mine"), pin))
	if got, err := chip.NVRead(index, 0, 4); err != nil || string(got) != "mine" {
		t.Errorf("the area holds %q, %v", got, err)
	}
	ok(t, chip.NVUndefine(owner, index))
	ok(t, chip.NVLock()) // a second time is no mistake
}
