package aem

// Exit is a program's exit code. The codes are part of the interface: scripts
// and initramfs hooks decide by them, and they never change their meaning.
type Exit int

// The exit codes of all programs.
const (
	ExitOK           Exit = 0
	ExitError        Exit = 1 // something else went wrong
	ExitUsage        Exit = 2 // the command line is wrong
	ExitNotPossible  Exit = 3 // not possible on this machine
	ExitMeasurements Exit = 4 // the machine is in no approved state
	ExitAuth         Exit = 5 // a PIN or password is wrong
	ExitLocked       Exit = 6 // the TPM refuses PINs for a while
	ExitStale        Exit = 7 // the medium was superseded
	ExitDamaged      Exit = 8 // the record is damaged or missing
	ExitOtherTPM     Exit = 9 // another TPM, or a cleared one
)
