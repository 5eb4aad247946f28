package tpm2

import (
	"crypto/rand"
	"errors"
	"fmt"

	gotpm "github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/antievilmaid/aem/tpm"
)

// ErrNoHMAC: the TPM has no command, or not the hash, for the HMAC that is asked for.
var ErrNoHMAC = errors.New("the TPM computes no HMAC of this kind")

// MinHMACKey and MaxHMACKey bound the length of an HMAC key. Who sees one result
// can try out a shorter key; a TPM takes none that is longer than the hash's block.
const MinHMACKey, MaxHMACKey = 16, 64

// LongPIN is the length from which a key's PIN is one that nobody guesses: a random
// value as long as the policy's hash, and not what a person types. The TPM does not
// count wrong tries at such a key, because counting would only let a stranger lock
// the PINs of persons.
const LongPIN = 32

// MaxMessage is the most that one command takes (MAX_DIGEST_BUFFER).
const MaxMessage = 1024

// MakeHMACKey makes a key object under a storage key with which the TPM computes
// HMACs as long as the policy is satisfied, and which nobody can read: not even
// in an approved state, where a sealed object would give its secret away. The
// secret comes from the caller, so that somebody else, a phone, can hold it too;
// the caller wipes it. alg is SHA-1 or SHA-256. pin is used where policy.PIN is
// set; see [LongPIN].
//
// A policy that demands nothing is refused: a result that every boot can ask for
// proves nothing about any. Otherwise errors are as with [TPM.Seal], and
// [ErrNoHMAC] where the TPM does not have the hash. Two commands are sent.
func (t *TPM) MakeHMACKey(k *Key, policy *Policy, pin []byte, alg tpm.Alg, secret []byte) (*Object, error) {
	if alg != tpm.SHA1 && alg != tpm.SHA256 {
		return nil, fmt.Errorf("an HMAC key is for sha1 or sha256, not for %s", alg)
	}
	if len(secret) < MinHMACKey || len(secret) > MaxHMACKey {
		return nil, fmt.Errorf("an HMAC key has %d to %d bytes, not %d", MinHMACKey, MaxHMACKey, len(secret))
	}
	if !policy.bound() {
		return nil, errors.New("an HMAC key needs a policy: a boot state, a counter or a PIN")
	}
	digest, err := policy.Digest()
	if err != nil {
		return nil, err
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
		InPublic: gotpm.New2B(gotpm.TPMTPublic{
			Type: gotpm.TPMAlgKeyedHash, NameAlg: gotpm.TPMAlgSHA256,
			// Without userWithAuth there is no way around the policy, and with
			// adminWithPolicy none to change the PIN, because that role demands a
			// TPM2_PolicyCommandCode, which the policy does not have.
			ObjectAttributes: gotpm.TPMAObject{
				FixedTPM: true, FixedParent: true, AdminWithPolicy: true, SignEncrypt: true, NoDA: !policy.PIN || len(pin) >= LongPIN,
			},
			AuthPolicy: gotpm.TPM2BDigest{Buffer: digest},
			Parameters: gotpm.NewTPMUPublicParms(gotpm.TPMAlgKeyedHash, &gotpm.TPMSKeyedHashParms{
				Scheme: gotpm.TPMTKeyedHashScheme{
					Scheme:  gotpm.TPMAlgHMAC,
					Details: gotpm.NewTPMUSchemeKeyedHash(gotpm.TPMAlgHMAC, &gotpm.TPMSSchemeHMAC{HashAlg: gotpm.TPMIAlgHash(alg)}),
				},
			}),
		}),
	})
	if err != nil {
		return nil, classify(fmt.Errorf("make the HMAC key under the storage key: %w", err), map[gotpm.TPMRC]error{
			gotpm.TPMRCHash: ErrNoHMAC, gotpm.TPMRCScheme: ErrNoHMAC,
		})
	}
	return &Object{Public: rsp.OutPublic.Bytes(), Private: rsp.OutPrivate.Buffer}, nil
}

// HMAC has the TPM compute the HMAC of a message of at most [MaxMessage] bytes
// with a key from [TPM.MakeHMACKey], in the state at index state of its policy.
// The result has the size of the key's hash.
//
// Message and result cross the bus in a salted session: a chip in between can't
// have another message computed, such as the counter of tomorrow's one-time code,
// and does not see the result before the owner does.
//
// It takes as many commands as [TPM.Unseal] with the same policy: TPM2_Load,
// TPM2_StartAuthSession, TPM2_PolicyPCR, TPM2_HMAC and TPM2_FlushContext, and one
// more each for several states (TPM2_PolicyOR), the counter (TPM2_PolicyNV) and
// the PIN (TPM2_PolicyAuthValue). A TPM without TPM2_HMAC is asked a second time
// by TPM2_HMAC_Start, with a session and a policy of its own.
//
// Errors to decide on: those of [TPM.Unseal], and [ErrNoHMAC].
func (t *TPM) HMAC(k *Key, o *Object, policy *Policy, state int, pin, message []byte) (_ []byte, err error) {
	alg, err := hmacAlg(o)
	if err != nil {
		return nil, err
	}
	if len(message) > MaxMessage {
		return nil, fmt.Errorf("a TPM computes the HMAC of %d bytes at once, not of %d", MaxMessage, len(message))
	}
	if !policy.bound() {
		return nil, errors.New("an HMAC key has a policy, and none is given")
	}
	item, err := t.load(k, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = join(err, t.flush(item.Handle)) }()
	item.Auth = t.session(k, policy, state, pin, gotpm.AESEncryption(128, gotpm.EncryptInOut))
	rsp, err := run(t, "TPM2_HMAC", gotpm.Hmac{
		Handle: item, Buffer: gotpm.TPM2BMaxBuffer{Buffer: message}, HashAlg: gotpm.TPMIAlgHash(alg),
	})
	var mac []byte
	switch {
	case err == nil:
		mac = rsp.OutHMAC.Buffer
	case errors.Is(err, gotpm.TPMRCCommandCode):
		item.Auth = t.session(k, policy, state, pin, gotpm.AESEncryption(128, gotpm.EncryptIn))
		mac, err = t.hmacSequence(k, item, alg, message)
	}
	if err != nil {
		return nil, classify(fmt.Errorf("use the HMAC key: %w", err), map[gotpm.TPMRC]error{
			gotpm.TPMRCPolicyFail: ErrPolicy, gotpm.TPMRCPCRChanged: ErrPolicy,
			gotpm.TPMRCAuthFail: ErrAuth, gotpm.TPMRCBadAuth: ErrAuth, gotpm.TPMRCLockout: ErrLockout,
			gotpm.TPMRCCommandCode: ErrNoHMAC,
		})
	}
	return mac, nil
}

// session is a policy session, made when it is used, that satisfies the policy
// and encrypts the first parameter in the given direction.
func (t *TPM) session(k *Key, policy *Policy, state int, pin []byte, direction gotpm.AuthOption) gotpm.Session {
	options := salted(k, direction)
	if policy.PIN {
		options = append(options, gotpm.Auth(pin))
	}
	return gotpm.Policy(gotpm.TPMAlgSHA256, 16, func(_ transport.TPM, h gotpm.TPMISHPolicy, _ gotpm.TPM2BNonce) error {
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
}

// hmacSequence does what TPM2_HMAC does by a sequence object (Part 3, clause
// 17.2). The object gets an authorisation value of its own that nobody on the bus
// learns: with an empty one, a chip in between could put its own message in.
func (t *TPM) hmacSequence(k *Key, item gotpm.AuthHandle, alg tpm.Alg, message []byte) ([]byte, error) {
	auth := make([]byte, 32)
	defer clear(auth)
	rand.Read(auth) // never returns an error
	for i := range auth {
		auth[i] |= 1 // go-tpm cuts an authorisation value at its first zero
	}
	start, err := run(t, "TPM2_HMAC_Start", gotpm.HmacStart{
		Handle: item, Auth: gotpm.TPM2BAuth{Buffer: auth}, HashAlg: gotpm.TPMIAlgHash(alg),
	})
	if err != nil {
		return nil, err
	}
	options := append(salted(k, gotpm.AESEncryption(128, gotpm.EncryptInOut)), gotpm.Auth(auth))
	rsp, err := run(t, "TPM2_SequenceComplete", gotpm.SequenceComplete{
		SequenceHandle: gotpm.AuthHandle{Handle: start.SequenceHandle, Auth: gotpm.HMAC(gotpm.TPMAlgSHA256, 16, options...)},
		Buffer:         gotpm.TPM2BMaxBuffer{Buffer: message},
	})
	if err != nil {
		return nil, join(err, t.flush(start.SequenceHandle))
	}
	return rsp.Result.Buffer, nil
}

// hmacAlg is the hash of an HMAC key, as its public area says. Nothing is sent.
func hmacAlg(o *Object) (tpm.Alg, error) {
	public, err := contents(ptr(gotpm.BytesAs2B[gotpm.TPMTPublic](o.Public)))
	if err != nil {
		return 0, errors.Join(ErrIntegrity, err)
	}
	parameters, err := public.Parameters.KeyedHashDetail()
	if err != nil {
		return 0, fmt.Errorf("the object is no HMAC key: %w", ErrIntegrity)
	}
	scheme, err := parameters.Scheme.Details.HMAC()
	if err != nil {
		return 0, fmt.Errorf("the object is no HMAC key: %w", ErrIntegrity)
	}
	return tpm.Alg(scheme.HashAlg), nil
}

// Clock is what a TPM knows of time (TPMS_CLOCK_INFO, Part 2, clause 10.11.1).
// It is no time of day: it advances while the TPM has power.
type Clock struct {
	// Milliseconds is how long the TPM had power since it was last cleared. The
	// owner can advance it (TPM2_ClockSet) and nobody can set it back.
	Milliseconds uint64
	// Resets counts the TPM's starts since it was last cleared.
	Resets uint32
	// Restarts counts suspends and dynamic launches since the last of those.
	Restarts uint32
	// Safe says that no later Milliseconds was ever reported. After a power cut
	// the clock may be back by up to 2^22 milliseconds, and then it is not.
	Safe bool
}

// ReadClock reads the TPM's clock, in one command. TPM2_ReadClock takes no
// session, so a chip in between can answer what it likes: the clock serves to
// notice a wrong time of day, and nothing may be opened because of it.
func (t *TPM) ReadClock() (Clock, error) {
	rsp, err := run(t, "TPM2_ReadClock", gotpm.ReadClock{})
	if err != nil {
		return Clock{}, err
	}
	c := rsp.CurrentTime.ClockInfo
	return Clock{c.Clock, c.ResetCount, c.RestartCount, c.Safe}, nil
}
