package tpm2

import (
	"bytes"
	"errors"
	"fmt"

	gotpm "github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Object is a sealed object outside of its TPM: both halves as the TPM made
// them (TPM2B_PUBLIC and TPM2B_PRIVATE without their sizes).
type Object struct {
	Public  []byte
	Private []byte
}

// MaxSecret is the most that a TPM seals (MAX_SYM_DATA).
const MaxSecret = 128

// salted are the session options under which a secret may cross the bus: the
// session's key is derived from a salt that only the holder of the private
// storage key can decrypt, so who listens learns nothing and who answers in the
// TPM's place fails its HMAC.
func salted(k *Key, direction gotpm.AuthOption) []gotpm.AuthOption {
	return []gotpm.AuthOption{gotpm.Salted(gotpm.TPMHandle(k.Handle), k.public), direction}
}

// Seal makes an object under a storage key that opens as the policy says. It
// refuses a policy that demands nothing. pin is used where policy.PIN is set.
func (t *TPM) Seal(k *Key, policy *Policy, pin, secret []byte) (*Object, error) {
	if len(secret) == 0 || len(secret) > MaxSecret {
		return nil, fmt.Errorf("a TPM seals 1 to %d bytes, not %d", MaxSecret, len(secret))
	}
	public := gotpm.TPMTPublic{
		Type: gotpm.TPMAlgKeyedHash, NameAlg: gotpm.TPMAlgSHA256,
		ObjectAttributes: gotpm.TPMAObject{FixedTPM: true, FixedParent: true, NoDA: !policy.PIN},
	}
	if policy.bound() {
		digest, err := policy.Digest()
		if err != nil {
			return nil, err
		}
		public.ObjectAttributes.AdminWithPolicy = true
		public.AuthPolicy = gotpm.TPM2BDigest{Buffer: digest}
	} else {
		// Bound to this TPM alone: opens with its (empty) authorisation value.
		public.ObjectAttributes.UserWithAuth = true
	}
	sensitive := &gotpm.TPMSSensitiveCreate{Data: gotpm.NewTPMUSensitiveCreate(&gotpm.TPM2BSensitiveData{Buffer: secret})}
	if policy.PIN {
		sensitive.UserAuth = gotpm.TPM2BAuth{Buffer: pin}
	}
	rsp, err := run(t, "TPM2_Create", gotpm.Create{
		ParentHandle: gotpm.AuthHandle{
			Handle: gotpm.TPMHandle(k.Handle), Name: gotpm.TPM2BName{Buffer: k.Name},
			Auth: gotpm.HMAC(gotpm.TPMAlgSHA256, 16, salted(k, gotpm.AESEncryption(128, gotpm.EncryptIn))...),
		},
		InSensitive: gotpm.TPM2BSensitiveCreate{Sensitive: sensitive},
		InPublic:    gotpm.New2B(public),
	})
	if err != nil {
		return nil, fmt.Errorf("seal under the storage key: %w", err)
	}
	return &Object{Public: rsp.OutPublic.Bytes(), Private: rsp.OutPrivate.Buffer}, nil
}

// bound reports whether the policy demands anything.
func (p *Policy) bound() bool { return len(p.States) > 0 || p.Counter != nil || p.PIN }

// Unseal opens an object in the state at index state of its policy; state is
// ignored where the policy has none. The caller wipes the secret.
//
// Errors to decide on: [ErrPolicy], [ErrStale], [ErrNoCounter], [ErrAuth],
// [ErrLockout], [ErrIntegrity].
func (t *TPM) Unseal(k *Key, o *Object, policy *Policy, state int, pin []byte) (_ []byte, err error) {
	item, err := t.load(k, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = join(err, t.flush(item.Handle)) }()
	options := salted(k, gotpm.AESEncryption(128, gotpm.EncryptOut))
	if policy.bound() {
		if policy.PIN {
			options = append(options, gotpm.Auth(pin))
		}
		item.Auth = gotpm.Policy(gotpm.TPMAlgSHA256, 16, func(_ transport.TPM, h gotpm.TPMISHPolicy, _ gotpm.TPM2BNonce) error {
			// go-tpm forgets a session whose policy was refused.
			err := t.approve(policy, state, h)
			if err == nil {
				err = t.prove(policy, h)
			}
			if err != nil {
				return join(err, t.flush(h))
			}
			return nil
		}, options...)
	} else {
		item.Auth = gotpm.HMAC(gotpm.TPMAlgSHA256, 16, options...)
	}
	rsp, err := run(t, "TPM2_Unseal", gotpm.Unseal{ItemHandle: item})
	if err != nil {
		return nil, classify(fmt.Errorf("open the sealed object: %w", err), map[gotpm.TPMRC]error{
			gotpm.TPMRCPolicyFail: ErrPolicy, gotpm.TPMRCPCRChanged: ErrPolicy,
			gotpm.TPMRCAuthFail: ErrAuth, gotpm.TPMRCBadAuth: ErrAuth, gotpm.TPMRCLockout: ErrLockout,
		})
	}
	return rsp.OutData.Buffer, nil
}

// Rehearse does all of an opening that can be done before the counter has its
// new value: the object is loaded, which only its own TPM can, its policy is the
// one expected, and the PCRs are in the state at index state.
func (t *TPM) Rehearse(k *Key, o *Object, policy *Policy, state int) (err error) {
	if err := o.Carries(policy); err != nil {
		return err
	}
	item, err := t.load(k, o)
	if err != nil {
		return err
	}
	defer func() { err = join(err, t.flush(item.Handle)) }()
	if len(policy.States) == 0 || state < 0 {
		return nil
	}
	session, closeSession, err := gotpm.PolicySession(t.ch, gotpm.TPMAlgSHA256, 16)
	if err != nil {
		return classify(fmt.Errorf("TPM2_StartAuthSession: %w", err), busy)
	}
	defer func() { err = join(err, closeSession()) }()
	return t.approve(policy, state, session.Handle())
}

// Carries compares an object's policy with the one expected, without the TPM. Where
// they differ, one of the two was changed, and the error wraps [ErrIntegrity].
func (o *Object) Carries(policy *Policy) error {
	var want []byte // an object that opens in any state has no policy
	if policy.bound() {
		var err error
		if want, err = policy.Digest(); err != nil {
			return err
		}
	}
	public, err := contents(ptr(gotpm.BytesAs2B[gotpm.TPMTPublic](o.Public)))
	if err != nil {
		return errors.Join(ErrIntegrity, err)
	}
	if !bytes.Equal(public.AuthPolicy.Buffer, want) {
		return fmt.Errorf("the sealed object carries another policy than the record: %w", ErrIntegrity)
	}
	return nil
}

func ptr[T any](v T) *T { return &v }

// load brings an object into the TPM, which checks that it was made there and not altered since.
func (t *TPM) load(k *Key, o *Object) (gotpm.AuthHandle, error) {
	rsp, err := run(t, "TPM2_Load", gotpm.Load{
		ParentHandle: gotpm.AuthHandle{
			Handle: gotpm.TPMHandle(k.Handle), Name: gotpm.TPM2BName{Buffer: k.Name}, Auth: gotpm.PasswordAuth(nil),
		},
		InPrivate: gotpm.TPM2BPrivate{Buffer: o.Private},
		InPublic:  gotpm.BytesAs2B[gotpm.TPMTPublic](o.Public),
	})
	if err != nil {
		return gotpm.AuthHandle{}, classify(fmt.Errorf("load the sealed object: %w", err), map[gotpm.TPMRC]error{
			gotpm.TPMRCIntegrity: ErrIntegrity, gotpm.TPMRCSize: ErrIntegrity, gotpm.TPMRCType: ErrIntegrity,
			gotpm.TPMRCAttributes: ErrIntegrity, gotpm.TPMRCHash: ErrIntegrity, gotpm.TPMRCInsufficient: ErrIntegrity,
			gotpm.TPMRCKeySize: ErrIntegrity, gotpm.TPMRCSymmetric: ErrIntegrity, gotpm.TPMRCScheme: ErrIntegrity,
			gotpm.TPMRCBinding: ErrIntegrity, gotpm.TPMRCReservedBits: ErrIntegrity, gotpm.TPMRCValue: ErrIntegrity,
		})
	}
	return gotpm.AuthHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}, nil
}
