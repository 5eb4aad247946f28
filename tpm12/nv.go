package tpm12

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// Permissions of NV areas (TPM_NV_ATTRIBUTES; Part 2, clause 19.2).
const (
	PermPresenceWrite uint32 = 1 << 0  // somebody present may write
	PermOwnerWrite    uint32 = 1 << 1  // the owner may write
	PermAuthWrite     uint32 = 1 << 2  // who knows the area's authorisation value may write
	PermWriteAll      uint32 = 1 << 12 // only the whole area at once can be written
	PermWriteDefine   uint32 = 1 << 13 // writing 0 bytes locks the area for good, across restarts
	PermWriteSTClear  uint32 = 1 << 14 // writing 0 bytes locks the area until the next start
	PermGlobalLock    uint32 = 1 << 15 // writing to index 0 locks the area until the next start
	PermPresenceRead  uint32 = 1 << 16 // somebody present may read
	PermOwnerRead     uint32 = 1 << 17 // the owner may read
	PermAuthRead      uint32 = 1 << 18 // who knows the area's authorisation value may read
	PermReadSTClear   uint32 = 1 << 31 // reading 0 bytes locks the area against reading until the next start
)

// NVArea describes an area of the TPM's non-volatile memory.
type NVArea struct {
	Index       uint32
	Size        uint32 // in bytes
	Permissions uint32 // an area without a read permission can be read by anyone
}

// maxNV is more than any TPM 1.2 has in one area and less than a command takes.
const maxNV = 2048

// indexLock is TPM_NV_INDEX_LOCK: defining it makes the TPM enforce the areas'
// permissions.
const indexLock = 0xffffffff

// anyState is a TPM_PCR_INFO_SHORT that demands nothing: no PCR, any locality.
func anyState() []byte {
	return slices.Concat(selection(0), []byte{anyLocality}, make([]byte, digestSize))
}

// encode is the area as a TPM_NV_DATA_PUBLIC (Part 2, clause 19.3).
func (a NVArea) encode() []byte {
	return slices.Concat(u16(0x0018), u32(a.Index), anyState(), anyState(),
		u16(0x0017), u32(a.Permissions), []byte{0, 0, 0}, u32(a.Size))
}

// NVDefine makes an area with the owner's authorisation (Part 3, clause 20.1).
// It refuses one that exists ([ErrDefined]), because the TPM would delete it and
// what it holds. auth is the area's own authorisation value.
//
// The permissions mean nothing while [TPM.NVLocked] says no.
func (t *TPM) NVDefine(owner Auth, area NVArea, auth Auth) error {
	if area.Size == 0 || area.Size > maxNV {
		return fmt.Errorf("an NV area has 1 to %d bytes, not %d", maxNV, area.Size)
	}
	used, err := t.NVIndices()
	if err != nil {
		return err
	}
	if slices.Contains(used, area.Index) {
		return fmt.Errorf("define NV area %#x: %w", area.Index, ErrDefined)
	}
	return t.define(owner, area, auth, "define")
}

// NVUndefine deletes an area and what it holds. An index that is not defined gives [ErrBadIndex].
func (t *TPM) NVUndefine(owner Auth, index uint32) error {
	// A size of 0 is how a deletion is written; of what is not there, it is a definition of nothing.
	err := t.define(owner, NVArea{Index: index, Permissions: PermOwnerWrite}, Auth{}, "delete")
	if errors.Is(err, errBadParamSize) {
		return fmt.Errorf("%w (%w)", err, ErrBadIndex)
	}
	return err
}

func (t *TPM) define(owner Auth, area NVArea, auth Auth, verb string) error {
	s, err := t.osap(entityOwner, handleOwner, owner)
	if err == nil {
		_, err = t.run(ordNVDefine, nil, slices.Concat(area.encode(), s.encrypt(auth)), s)
	}
	if err != nil {
		return fmt.Errorf("%s NV area %#x: %w", verb, area.Index, err)
	}
	return nil
}

// NVIndices lists the areas that are defined. Some are the manufacturer's.
func (t *TPM) NVIndices() ([]uint32, error) {
	b, err := t.capability(capNVList, nil)
	if err != nil {
		return nil, fmt.Errorf("list the NV areas: %w", err)
	}
	r := reader{b: b}
	var list []uint32
	for len(r.b) > 0 && !r.short {
		list = append(list, r.u32())
	}
	if err := r.done("a list of NV areas"); err != nil {
		return nil, fmt.Errorf("list the NV areas: %w", err)
	}
	return list, nil
}

// NVLookUp tells what an area is like, or [ErrBadIndex]. Whoever is the owner
// can put an area of another kind in the place of one that is relied on.
func (t *TPM) NVLookUp(index uint32) (NVArea, error) {
	b, err := t.capability(capNVIndex, u32(index))
	if err != nil {
		return NVArea{}, fmt.Errorf("look up NV area %#x: %w", index, err)
	}
	r := reader{b: b}
	tag, a := r.u16(), NVArea{Index: r.u32()}
	for range 2 { // who may read and who may write, in terms of PCRs
		r.take(uint32(r.u16()))
		r.take(1 + digestSize)
	}
	attributes := r.u16()
	a.Permissions = r.u32()
	r.take(3) // which locks are set
	a.Size = r.u32()
	if err := r.done("an NV area"); err != nil {
		return NVArea{}, fmt.Errorf("look up NV area %#x: %w", index, err)
	}
	if tag != 0x0018 || attributes != 0x0017 || a.Index != index {
		return NVArea{}, fmt.Errorf("look up NV area %#x: the answer is about something else: %w", index, ErrResponse)
	}
	return a, nil
}

// NVLocked reports whether the TPM enforces the areas' permissions
// (TPM_PERMANENT_FLAGS.nvLocked; Part 2, clause 7.1). One that left its factory
// unfinished does not: there, anybody reads and writes every area.
func (t *TPM) NVLocked() (bool, error) {
	b, err := t.capability(capFlag, u32(flagPermanent))
	if err != nil {
		return false, fmt.Errorf("ask whether NV permissions are enforced: %w", err)
	}
	// A tag and then one byte for each flag; later revisions append to them.
	const position = 2 + 15
	if len(b) <= position {
		return false, fmt.Errorf("ask whether NV permissions are enforced: the answer has %d bytes: %w", len(b), ErrResponse)
	}
	return b[position] != 0, nil
}

// NVLock makes the TPM enforce the areas' permissions from now on and for good.
func (t *TPM) NVLock() error {
	if _, err := t.send(ordNVDefine, 0, NVArea{Index: indexLock}.encode(), make([]byte, digestSize)); err != nil {
		return fmt.Errorf("make the TPM enforce NV permissions: %w", err)
	}
	return nil
}

// NVRead reads from an area that anyone may read (Part 3, clause 20.4). The
// answer is not authenticated. [ErrAuthConflict] says that the area has a read
// permission, [ErrBadIndex] that there is no such area.
func (t *TPM) NVRead(index, offset, size uint32) ([]byte, error) {
	if err := checkRange(offset, size); err != nil {
		return nil, fmt.Errorf("read NV area %#x: %w", index, err)
	}
	rsp, err := t.send(ordNVRead, 0, u32(index), u32(offset), u32(size))
	return nvData(index, size, rsp, err)
}

// NVReadAuth reads from an area with [PermAuthRead]; auth is the area's own
// authorisation value (Part 3, clause 20.5). Reading 0 bytes locks an area with
// [PermReadSTClear] until the next start.
func (t *TPM) NVReadAuth(index, offset, size uint32, auth Auth) ([]byte, error) {
	return t.nvRead(ordNVReadAuth, index, offset, size, auth)
}

// NVReadOwner reads from an area with [PermOwnerRead].
func (t *TPM) NVReadOwner(index, offset, size uint32, owner Auth) ([]byte, error) {
	return t.nvRead(ordNVRead, index, offset, size, owner)
}

func (t *TPM) nvRead(ord, index, offset, size uint32, auth Auth) ([]byte, error) {
	if err := checkRange(offset, size); err != nil {
		return nil, fmt.Errorf("read NV area %#x: %w", index, err)
	}
	rsp, err := t.authorise(ord, auth, u32(index), u32(offset), u32(size))
	return nvData(index, size, rsp, err)
}

func nvData(index, size uint32, rsp []byte, err error) ([]byte, error) {
	var data []byte
	if err == nil {
		r := reader{b: rsp}
		data = r.sized()
		if err = r.done("what was read"); err == nil && uint32(len(data)) != size {
			err = fmt.Errorf("the answer has %d bytes instead of %d: %w", len(data), size, ErrResponse)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read NV area %#x: %w", index, err)
	}
	return bytes.Clone(data), nil
}

// NVWriteAuth writes to an area with [PermAuthWrite]; auth is the area's own
// authorisation value (Part 3, clause 20.3).
func (t *TPM) NVWriteAuth(index, offset uint32, data []byte, auth Auth) error {
	return t.nvWrite(ordNVWriteAuth, index, offset, data, auth)
}

// NVWriteOwner writes to an area with [PermOwnerWrite] (Part 3, clause 20.2).
func (t *TPM) NVWriteOwner(index, offset uint32, data []byte, owner Auth) error {
	return t.nvWrite(ordNVWrite, index, offset, data, owner)
}

func (t *TPM) nvWrite(ord, index, offset uint32, data []byte, auth Auth) error {
	err := checkRange(offset, uint32(min(len(data), maxNV+1)))
	if err == nil && len(data) == 0 {
		// It would lock the area, perhaps for good; nobody should do that by passing an empty slice.
		err = errors.New("there is nothing to write")
	}
	if err == nil {
		_, err = t.authorise(ord, auth, u32(index), u32(offset), sized(data))
	}
	if err != nil {
		return fmt.Errorf("write NV area %#x: %w", index, err)
	}
	return nil
}

func checkRange(offset, size uint32) error {
	if offset > maxNV || size > maxNV {
		return fmt.Errorf("%d bytes from %d on are beyond what an NV area has", size, offset)
	}
	return nil
}
