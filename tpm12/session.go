package tpm12

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"errors"
	"fmt"
	"slices"
)

// Auth is an authorisation value (TPM_AUTHDATA): the SHA-1 of a password, or a
// value that is everybody's.
type Auth [20]byte

// WellKnown is the authorisation value of entities that need no password.
var WellKnown Auth

// PasswordAuth is the SHA-1 of a password's bytes, as all TPM 1.2 tools compute it.
func PasswordAuth(password []byte) Auth { return sha1.Sum(password) }

// The entities to which a session can be bound, and their fixed handles (Part 2,
// clauses 4.3 and 4.4.1).
const (
	entityOwner = 0x0002
	entitySRK   = 0x0004

	handleSRK   = 0x40000000
	handleOwner = 0x40000001
	handleEK    = 0x40000006

	resourceAuth = 2 // TPM_RT_AUTH: a session, for TPM_FlushSpecific
)

// session is one use of an authorisation session: opened for a command, ended by
// the TPM with it.
type session struct {
	handle    uint32
	nonceEven [20]byte // the TPM's
	key       [20]byte // keys the HMACs: the authorisation value, or OSAP's shared secret
}

// tailSize is what each session adds to an answer: nonce, flag and HMAC.
const tailSize = 20 + 1 + 20

func nonce() (n [20]byte) {
	rand.Read(n[:])
	return n
}

func mac(key [20]byte, parts ...[]byte) (sum [20]byte) {
	m := hmac.New(sha1.New, key[:])
	for _, p := range parts {
		m.Write(p)
	}
	m.Sum(sum[:0])
	return sum
}

// oiap opens a session that proves knowledge of auth (Part 3, clause 18.1).
func (t *TPM) oiap(auth Auth) (*session, error) {
	rsp, err := t.send(ordOIAP, 0)
	if err != nil {
		return nil, err
	}
	r := reader{b: rsp}
	s := &session{handle: r.u32(), key: auth}
	copy(s.nonceEven[:], r.take(20))
	return s, r.done("a session")
}

// osap opens a session that is bound to one entity (Part 3, clause 18.2). Only
// in such a session can a new authorisation value be handed over encrypted.
func (t *TPM) osap(entity uint16, handle uint32, auth Auth) (*session, error) {
	odd := nonce()
	rsp, err := t.send(ordOSAP, 0, u16(entity), u32(handle), odd[:])
	if err != nil {
		return nil, err
	}
	r := reader{b: rsp}
	s := &session{handle: r.u32()}
	copy(s.nonceEven[:], r.take(20))
	s.key = mac(auth, r.take(20), odd[:])
	return s, r.done("a session")
}

// encrypt hides a new authorisation value from listeners who don't know the
// entity's (ADIP; Part 1, clause 13.7). It must be used once per session: the
// pad repeats while the nonce does.
func (s *session) encrypt(auth Auth) []byte {
	pad := sha1.Sum(slices.Concat(s.key[:], s.nonceEven[:]))
	for i := range pad {
		pad[i] ^= auth[i]
	}
	return pad[:]
}

// run sends a command under one or two sessions, which end with it. handles are
// those that the HMAC leaves out; params is what it covers, and is wiped. The
// answer's HMACs are verified before anything of it is returned.
func (t *TPM) run(ord uint32, handles, params []byte, sessions ...*session) ([]byte, error) {
	defer clear(params)
	digest := sha1.Sum(slices.Concat(u32(ord), params))
	odd := make([][20]byte, len(sessions))
	var proofs []byte
	for i, s := range sessions {
		odd[i] = nonce()
		proof := mac(s.key, digest[:], s.nonceEven[:], odd[i][:], []byte{0})
		proofs = slices.Concat(proofs, u32(s.handle), odd[i][:], []byte{0}, proof[:])
	}
	rsp, err := t.send(ord, len(sessions), handles, params, proofs)
	if err == nil {
		rsp, err = verify(ord, rsp, odd, sessions)
	}
	t.end(err, sessions...)
	if err != nil {
		return nil, err
	}
	return rsp, nil
}

// verify checks the HMACs behind an answer's parameters and returns the parameters.
func verify(ord uint32, rsp []byte, odd [][20]byte, sessions []*session) ([]byte, error) {
	n := len(rsp) - tailSize*len(sessions)
	if n < 0 {
		return nil, fmt.Errorf("%s: the TPM's answer has no room for its HMAC: %w", commandNames[ord], ErrResponse)
	}
	out, tail := rsp[:n:n], rsp[n:]
	digest := sha1.Sum(slices.Concat(u32(0), u32(ord), out))
	for i, s := range sessions {
		want := mac(s.key, digest[:], tail[:20], odd[i][:], tail[20:21])
		if !hmac.Equal(want[:], tail[21:tailSize]) {
			return nil, fmt.Errorf("%s: the answer's HMAC is wrong, so it is not the TPM's: %w", commandNames[ord], ErrResponse)
		}
		tail = tail[tailSize:]
	}
	return out, nil
}

// end forgets sessions. Those of a successful command are gone already. After a
// refusal the specification ends them too, but not every chip does at every
// refusal, and a TPM has room for as few as three.
func (t *TPM) end(err error, sessions ...*session) {
	for _, s := range sessions {
		if err != nil && !errors.Is(err, ErrOtherFamily) {
			// That the session is gone already is the expected answer; the refusal itself is what counts.
			_, _ = t.send(ordFlushSpecific, 0, u32(s.handle), u32(resourceAuth))
		}
		clear(s.key[:])
	}
}

// authorise runs a command that needs nothing but the proof of one authorisation value.
func (t *TPM) authorise(ord uint32, auth Auth, params ...[]byte) ([]byte, error) {
	s, err := t.oiap(auth)
	if err != nil {
		return nil, err
	}
	return t.run(ord, nil, slices.Concat(params...), s)
}
