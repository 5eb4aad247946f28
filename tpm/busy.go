package tpm

import "errors"

// ErrBusy says that a TPM did not execute a command because of what other programs do with it: they
// keep it busy, hold all of its places for keys and sessions, or have its device open. The same
// command may succeed later.
var ErrBusy = errors.New("other programs keep the TPM busy")
