package store

import "errors"

// What the one who opens or reads a store decides on. Details are wrapped around them.
var (
	// ErrMissing: there is no store; making one is a separate act.
	ErrMissing = errors.New("there is no vTPM store")
	// ErrExists: what was to be made is there already.
	ErrExists = errors.New("it exists already")
	// ErrBusy: another process has the store open.
	ErrBusy = errors.New("another process has the vTPM store open")
	// ErrUnknown: the store proves that it has no such vTPM.
	ErrUnknown = errors.New("no vTPM has this UUID")
	// ErrGeneration: a state of another generation was expected than the one stored.
	ErrGeneration = errors.New("the stored state has another generation")
	// ErrRolledBack: what is there is genuine and older than what was last committed.
	ErrRolledBack = errors.New("it was put back from an earlier time")
	// ErrAhead: the store's epoch is one that this TPM's counter has not reached.
	ErrAhead = errors.New("the vTPM store is newer than the TPM's counter: the TPM, or the store, is another one")
	// ErrOtherRoot: the store was made with another root key.
	ErrOtherRoot = errors.New("the vTPM store was made with another root key")
	// ErrForeign: what is there is genuine and belongs to another vTPM.
	ErrForeign = errors.New("it is another vTPM's")
	// ErrLost: what the tree proves to be in the store was taken out of it.
	ErrLost = errors.New("it was taken out of the store")
	// ErrAdded: what the tree does not know was put into the store.
	ErrAdded = errors.New("it was put into the store by somebody else")
	// ErrDamaged: what is there is not what was written.
	ErrDamaged = errors.New("it is damaged")
	// ErrUnsure: the disk did not confirm a commit that it may have made. [Store.Reopen]
	// says which it was; until then the store answers nothing.
	ErrUnsure = errors.New("the disk did not confirm the last commit, and nothing is stored until it does")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("the vTPM store is closed")
)
