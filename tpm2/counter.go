package tpm2

import (
	"encoding/binary"
	"fmt"

	gotpm "github.com/google/go-tpm/tpm2"
)

// Counter is an NV index that only counts up (Part 1, clause 37.2.4). Anyone may
// read it; the owner hierarchy increments it.
//
// That the owner's password is empty on most machines costs a lockout of the
// owner, not the freshness: who deletes the index and defines it again gets a
// counter that starts above every value that any counter of this TPM ever had.
type Counter struct {
	Index uint32
	// Name contains the attributes, so it is another after the first increment
	// and the same ever after.
	Name Name
}

// counterAttributes are those of a counter that sealed objects may refer to.
var counterAttributes = gotpm.TPMANV{
	OwnerWrite: true, OwnerRead: true, AuthRead: true, NoDA: true, NT: gotpm.TPMNTCounter,
}

// NV indices that the owner may define for any use (Registry of Reserved TPM 2.0
// Handles, clause 2.2.2); ours are the first free ones from 0x0180AE00 on.
const counterFirst, counterLast = 0x0180ae00, 0x0180aeff

// IsCounterIndex reports whether counters of ours have such an index.
func IsCounterIndex(index uint32) bool { return index >= counterFirst && index <= counterLast }

// MakeCounter defines a counter at a free index and counts it once, so that it
// can be read.
func (t *TPM) MakeCounter(ownerAuth []byte) (*Counter, error) {
	used, err := t.handles(counterFirst, counterLast)
	if err != nil {
		return nil, err
	}
	index := uint32(counterFirst)
	for _, h := range used {
		if h == index {
			index++
		}
	}
	if index > counterLast {
		return nil, fmt.Errorf("all %d NV indices for counters are in use; remove media that you no longer have", counterLast-counterFirst+1)
	}
	_, err = run(t, "TPM2_NV_DefineSpace", gotpm.NVDefineSpace{
		AuthHandle: gotpm.AuthHandle{Handle: gotpm.TPMRHOwner, Auth: gotpm.PasswordAuth(ownerAuth)},
		PublicInfo: gotpm.New2B(gotpm.TPMSNVPublic{
			NVIndex: gotpm.TPMHandle(index), NameAlg: gotpm.TPMAlgSHA256, Attributes: counterAttributes, DataSize: 8,
		}),
	})
	if err != nil {
		return nil, ownerError(fmt.Errorf("define the counter at NV index %#x: %w", index, err))
	}
	var c *Counter
	if err = t.Increment(index, ownerAuth); err == nil {
		c, err = t.FindCounter(index)
	}
	if err != nil {
		// Nobody knows of it, and there are not many.
		return nil, join(err, t.RemoveCounter(&Counter{Index: index}, ownerAuth))
	}
	return c, nil
}

// HasCounters reports whether any index of ours is defined.
func (t *TPM) HasCounters() (bool, error) {
	used, err := t.handles(counterFirst, counterLast)
	return len(used) > 0, err
}

// FindCounter looks a counter up and refuses an index of another kind
// ([ErrNoCounter]): an attacker who may define indices could put an ordinary
// one in its place, to which any value can be written.
func (t *TPM) FindCounter(index uint32) (*Counter, error) {
	rsp, err := run(t, "TPM2_NV_ReadPublic", gotpm.NVReadPublic{NVIndex: gotpm.TPMHandle(index)})
	if err != nil {
		return nil, classify(fmt.Errorf("look up NV index %#x: %w", index, err),
			map[gotpm.TPMRC]error{gotpm.TPMRCHandle: ErrNoCounter})
	}
	public, err := nvContents(&rsp.NVPublic)
	if err != nil {
		return nil, fmt.Errorf("look up NV index %#x: %w", index, err)
	}
	a := public.Attributes
	if a.NT != gotpm.TPMNTCounter || !a.Written || !a.AuthRead || a.AuthWrite {
		return nil, fmt.Errorf("NV index %#x is not a counter of ours: %w", index, ErrNoCounter)
	}
	name, err := gotpm.NVName(public)
	if err != nil {
		return nil, fmt.Errorf("compute the Name of NV index %#x: %w", index, err)
	}
	return &Counter{Index: index, Name: name.Buffer}, nil
}

func nvContents(b *gotpm.TPM2BNVPublic) (public *gotpm.TPMSNVPublic, err error) {
	defer catch(&err)
	return b.Contents()
}

// handle names the counter as its own authorisation, which is empty.
func (c *Counter) handle() gotpm.AuthHandle {
	return gotpm.AuthHandle{
		Handle: gotpm.TPMHandle(c.Index), Name: gotpm.TPM2BName{Buffer: c.Name}, Auth: gotpm.PasswordAuth(nil),
	}
}

// ReadCounter reads a counter's value. Like all that is read without a session,
// it serves to choose and to explain; the policy is what the TPM enforces.
func (t *TPM) ReadCounter(c *Counter) (uint64, error) {
	rsp, err := run(t, "TPM2_NV_Read", gotpm.NVRead{
		AuthHandle: c.handle(),
		NVIndex:    gotpm.NamedHandle{Handle: gotpm.TPMHandle(c.Index), Name: gotpm.TPM2BName{Buffer: c.Name}},
		Size:       8,
	})
	if err != nil {
		return 0, classify(fmt.Errorf("read the counter at NV index %#x: %w", c.Index, err),
			map[gotpm.TPMRC]error{gotpm.TPMRCHandle: ErrNoCounter})
	}
	if len(rsp.Data.Buffer) != 8 {
		return 0, fmt.Errorf("the counter at NV index %#x has %d bytes, not 8", c.Index, len(rsp.Data.Buffer))
	}
	return binary.BigEndian.Uint64(rsp.Data.Buffer), nil
}

// Increment counts a counter up by one.
func (t *TPM) Increment(index uint32, ownerAuth []byte) error {
	rsp, err := run(t, "TPM2_NV_ReadPublic", gotpm.NVReadPublic{NVIndex: gotpm.TPMHandle(index)})
	if err != nil {
		return classify(fmt.Errorf("look up NV index %#x: %w", index, err),
			map[gotpm.TPMRC]error{gotpm.TPMRCHandle: ErrNoCounter})
	}
	_, err = run(t, "TPM2_NV_Increment", gotpm.NVIncrement{
		AuthHandle: gotpm.AuthHandle{Handle: gotpm.TPMRHOwner, Auth: gotpm.PasswordAuth(ownerAuth)},
		NVIndex:    gotpm.NamedHandle{Handle: gotpm.TPMHandle(index), Name: rsp.NVName},
	})
	if err != nil {
		return ownerError(fmt.Errorf("increment the counter at NV index %#x: %w", index, err))
	}
	return nil
}

// RemoveCounter deletes a counter. Every record that was sealed to it is dead from then on.
func (t *TPM) RemoveCounter(c *Counter, ownerAuth []byte) error {
	_, err := run(t, "TPM2_NV_UndefineSpace", gotpm.NVUndefineSpace{
		AuthHandle: gotpm.AuthHandle{Handle: gotpm.TPMRHOwner, Auth: gotpm.PasswordAuth(ownerAuth)},
		NVIndex:    gotpm.NamedHandle{Handle: gotpm.TPMHandle(c.Index), Name: gotpm.TPM2BName{Buffer: c.Name}},
	})
	if err != nil {
		return ownerError(fmt.Errorf("delete the counter at NV index %#x: %w", c.Index, err))
	}
	return nil
}
