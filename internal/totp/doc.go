// Package totp makes the six digits by which a machine proves itself to an owner
// who holds a phone: the time-based one-time password of RFC 6238.
//
// Both sides hold the same key. The phone gets it once, as a QR code on the
// screen of the setup; the machine keeps it so that only an approved boot state
// can use it. On a TPM 2.0 it is a key object of the TPM, which computes the HMAC
// itself: no program ever has the key again. A TPM 1.2 has no such keys: there it
// is a sealed secret, and the code is computed in memory ([InMemory]), where a
// program of the approved state could copy it.
//
// A code is worth what the clock is worth. Who can set a machine's clock forward
// and start it in its approved state reads the code of that later time, and can
// show it then on another machine. [Plausible] says what can be noticed of that,
// and what can't.
package totp
