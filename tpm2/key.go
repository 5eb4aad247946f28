package tpm2

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	gotpm "github.com/google/go-tpm/tpm2"
)

// Name is the Name of a TPM entity: the algorithm's number and a digest of the
// public area (Part 1, clause 16). Who knows it knows the key.
type Name []byte

// Digest condenses a Name to 32 bytes.
func (n Name) Digest() [32]byte { return sha256.Sum256(n) }

// Key is a persistent storage key.
type Key struct {
	Handle uint32
	Name   Name

	public gotpm.TPMTPublic
}

// storageHandle is where the TCG wants the storage root key (TCG TPM v2.0
// Provisioning Guidance, table 2).
const storageHandle = 0x81000001

// persistentHandles bounds the owner's part of the persistent handles.
const persistentFirst, persistentLast = 0x81000000, 0x817fffff

// OpenKey reads the public area of a persistent key and checks that its Name is
// the one asked for, or any where name is nil.
//
// The check is made on the public area itself, so a chip that answers with
// somebody else's key is noticed here ([ErrOtherKey]); one that answers with the
// right public area and does not hold the private part fails at the first
// session that is salted with it.
func (t *TPM) OpenKey(handle uint32, name Name) (*Key, error) {
	rsp, err := run(t, "TPM2_ReadPublic", gotpm.ReadPublic{ObjectHandle: gotpm.TPMHandle(handle)})
	if err != nil {
		return nil, classify(fmt.Errorf("read the key at handle %#x: %w", handle, err),
			map[gotpm.TPMRC]error{gotpm.TPMRCHandle: ErrNoKey})
	}
	public, err := contents(&rsp.OutPublic)
	if err != nil {
		return nil, fmt.Errorf("read the key at handle %#x: %w", handle, err)
	}
	own, err := gotpm.ObjectName(public)
	if err != nil {
		return nil, fmt.Errorf("compute the Name of the key at handle %#x: %w", handle, err)
	}
	if name != nil && !bytes.Equal(own.Buffer, name) {
		return nil, fmt.Errorf("the key at handle %#x: %w", handle, ErrOtherKey)
	}
	return &Key{Handle: handle, Name: own.Buffer, public: *public}, nil
}

// PinnedKey is a key whose public area was noted before. Nothing is sent: a boot
// saves a command, and loses nothing by it, because only the holder of that key's
// private part can use a session that is salted with it.
func PinnedKey(handle uint32, public []byte) (*Key, error) {
	area, err := contents(ptr(gotpm.BytesAs2B[gotpm.TPMTPublic](public)))
	if err != nil {
		return nil, fmt.Errorf("read a key's public area: %w", err)
	}
	// go-tpm takes a missing size for zero.
	if !bytes.Equal(gotpm.Marshal(area), public) {
		return nil, fmt.Errorf("read a key's public area: %d bytes are not all of one", len(public))
	}
	name, err := gotpm.ObjectName(area)
	if err != nil {
		return nil, fmt.Errorf("compute a key's Name: %w", err)
	}
	return &Key{Handle: handle, Name: name.Buffer, public: *area}, nil
}

// Public is the public area (TPMT_PUBLIC), for [PinnedKey].
func (k *Key) Public() []byte { return gotpm.Marshal(k.public) }

// contents unmarshals a public area; go-tpm's own method panics on some bytes.
func contents(b *gotpm.TPM2BPublic) (public *gotpm.TPMTPublic, err error) {
	defer catch(&err)
	return b.Contents()
}

// suits reports whether a key can be the parent of sealed objects and salt
// sessions: a storage key that can't leave this TPM. RSA keys are taken as they
// come; a good key that exists is better than a second one.
func (k *Key) suits() bool {
	a := k.public.ObjectAttributes
	return a.Restricted && a.Decrypt && !a.SignEncrypt && a.FixedTPM && a.FixedParent && a.UserWithAuth &&
		(k.public.Type == gotpm.TPMAlgECC || k.public.Type == gotpm.TPMAlgRSA)
}

// FindStorageKey looks for a persistent storage key under the owner hierarchy
// that others made before. It returns [ErrNoKey] where there is none.
func (t *TPM) FindStorageKey() (*Key, error) {
	handles, err := t.handles(persistentFirst, persistentLast)
	if err != nil {
		return nil, err
	}
	// The standard handle first, then whatever else there is.
	for _, standard := range []bool{true, false} {
		for _, h := range handles {
			if (h == storageHandle) != standard {
				continue
			}
			if k, err := t.OpenKey(h, nil); err == nil && k.suits() {
				return k, nil
			}
		}
	}
	return nil, ErrNoKey
}

// MakeStorageKey creates the TCG's ECC P-256 storage key and makes it persistent
// at the standard handle, or at the first free one after it. ownerAuth is the
// owner hierarchy's authorisation, empty on most machines.
func (t *TPM) MakeStorageKey(ownerAuth []byte) (_ *Key, err error) {
	handles, err := t.handles(persistentFirst, persistentLast)
	if err != nil {
		return nil, err
	}
	handle := uint32(storageHandle)
	for taken := true; taken; {
		taken = false
		for _, h := range handles {
			if h == handle {
				handle, taken = handle+1, true
			}
		}
	}
	owner := gotpm.AuthHandle{Handle: gotpm.TPMRHOwner, Auth: gotpm.PasswordAuth(ownerAuth)}
	primary, err := run(t, "TPM2_CreatePrimary", gotpm.CreatePrimary{
		PrimaryHandle: owner, InPublic: gotpm.New2B(gotpm.ECCSRKTemplate),
	})
	if err != nil {
		return nil, ownerError(fmt.Errorf("create the storage key: %w", err))
	}
	defer func() { err = join(err, t.flush(primary.ObjectHandle)) }()
	_, err = run(t, "TPM2_EvictControl", gotpm.EvictControl{
		Auth:             owner,
		ObjectHandle:     &gotpm.NamedHandle{Handle: primary.ObjectHandle, Name: primary.Name},
		PersistentHandle: gotpm.TPMHandle(handle),
	})
	if err != nil {
		return nil, ownerError(fmt.Errorf("keep the storage key at handle %#x: %w", handle, err))
	}
	return t.OpenKey(handle, primary.Name.Buffer)
}

// RemoveKey removes a persistent key.
func (t *TPM) RemoveKey(k *Key, ownerAuth []byte) error {
	_, err := run(t, "TPM2_EvictControl", gotpm.EvictControl{
		Auth:             gotpm.AuthHandle{Handle: gotpm.TPMRHOwner, Auth: gotpm.PasswordAuth(ownerAuth)},
		ObjectHandle:     &gotpm.NamedHandle{Handle: gotpm.TPMHandle(k.Handle), Name: gotpm.TPM2BName{Buffer: k.Name}},
		PersistentHandle: gotpm.TPMHandle(k.Handle),
	})
	if err != nil {
		return ownerError(fmt.Errorf("remove the key at handle %#x: %w", k.Handle, err))
	}
	return nil
}

// EndorsementName creates the TCG's ECC P-256 endorsement key and returns its
// Name: it outlives a clearing of the TPM and tells one chip from another. It
// takes a slow chip a third of a second; a boot that succeeds never does it.
func (t *TPM) EndorsementName() (_ Name, err error) {
	rsp, err := run(t, "TPM2_CreatePrimary", gotpm.CreatePrimary{
		PrimaryHandle: gotpm.AuthHandle{Handle: gotpm.TPMRHEndorsement, Auth: gotpm.PasswordAuth(nil)},
		InPublic:      gotpm.New2B(gotpm.ECCEKTemplate),
	})
	if err != nil {
		return nil, fmt.Errorf("create the endorsement key: %w", err)
	}
	defer func() { err = join(err, t.flush(rsp.ObjectHandle)) }()
	return rsp.Name.Buffer, nil
}

// ownerError classifies a refusal of the owner hierarchy's authorisation.
func ownerError(err error) error {
	return classify(err, map[gotpm.TPMRC]error{
		gotpm.TPMRCAuthFail: ErrOwnerAuth, gotpm.TPMRCBadAuth: ErrOwnerAuth, gotpm.TPMRCLockout: ErrLockout,
	})
}
