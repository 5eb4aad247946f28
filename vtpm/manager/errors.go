package manager

import "errors"

// What a frontend, or who asks on the administrator's socket, decides on. Details are
// wrapped around them.
var (
	// ErrTaken: another guest has the vTPM.
	ErrTaken = errors.New("another guest has this vTPM")
	// ErrConnected: the guest is connected to its vTPM already.
	ErrConnected = errors.New("this guest is connected to its vTPM already")
	// ErrUnmeasured: the vTPM is for guests whose start is measured.
	ErrUnmeasured = errors.New("this vTPM is only for a guest whose start was measured, and nobody measured this one's")
	// ErrPaused: a state could not be kept, so the guest gets no more answers.
	ErrPaused = errors.New("the vTPM is paused, because its state could not be stored")
	// ErrRunning: what was asked for needs a vTPM that no guest uses.
	ErrRunning = errors.New("a guest is using this vTPM")
	// ErrPrepared: a start of this guest was prepared, and not yet made.
	ErrPrepared = errors.New("a start with this vTPM is prepared already")
	// ErrSuspended: the vTPM waits for its guest to be resumed.
	ErrSuspended = errors.New("this vTPM is suspended, with the guest that this one was")
	// ErrNotSuspended: there is nothing to go on with.
	ErrNotSuspended = errors.New("this vTPM is not suspended: its guest was resumed already, or was started anew, and its older images have no PCRs any more")
	// ErrOtherImage: the guest was not built of the image that it was suspended into.
	ErrOtherImage = errors.New("this is not the image that the guest was suspended into, or it was changed")
	// ErrGone: the guest has ended, or has let go of its device.
	ErrGone = errors.New("the guest is not connected to this vTPM any more")
	// ErrClosed: the manager is ending.
	ErrClosed = errors.New("the vTPM manager is ending")
)
