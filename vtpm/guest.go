package vtpm

import (
	"context"

	"github.com/antievilmaid/aem/tpm"
)

// BufferSize is the longest command or response of a vTPM, in bytes: what fits into
// the page that Xen's guests share with us, behind its header (tpmif.h, version 2).
const BufferSize = 4088

// Guest is who asks for a vTPM, in the words of the frontend that it came through.
type Guest struct {
	// UUID is the vTPM that is asked for. A frontend takes it from where the guest
	// cannot write.
	UUID UUID
	// Domain names the guest to people and in logs: "xen:5", "qemu:/run/vtpmd/<uuid>.sock".
	Domain string
	// Birth tells two guests of the same name apart: it is another one for each guest that
	// is built anew, and the same one when the same guest connects again. With Xen
	// it is the domain's number and handle.
	Birth string
	// Late says that the guest ran before its vTPM was attached. What it started with can't be known any more.
	Late bool
	// Firmware says that the guest begins with a firmware that measures what it starts, as QEMU's
	// machines do. A guest without it could say of itself what it likes.
	Firmware bool
	// Returns says that the frontend finds the same guest again, with the same Birth, when the manager died and
	// was started anew. Otherwise its vTPM ends with the manager.
	Returns bool
}

// Keeper decides who gets which vTPM. Frontends ask it.
type Keeper interface {
	// Attach gives a guest its vTPM. A fresh guest gets fresh PCRs, into which what it
	// starts with is measured; the same guest again gets its vTPM as it was. The error is a
	// sentence for the log and for where the toolstack shows it.
	Attach(ctx context.Context, g Guest) (Session, error)
}

// Session is one guest at its vTPM. Its methods may be called from several goroutines.
type Session interface {
	Version() tpm.Version
	// Log is the measurement log of the guest's start, which the guest may read. A way that can't hand it in
	// does not ask for it. It is empty where nothing was measured.
	Log() ([]byte, error)
	// Execute runs a command of the guest's. What the guest may not do is answered as a TPM
	// answers it; an error means that there is no vTPM any more, and the guest
	// gets none of it.
	Execute(ctx context.Context, at tpm.Locality, command []byte) ([]byte, error)
	// Cancel ends the command that is under way early, if there is one and it can be.
	Cancel() error
	// Reset says that the guest's machine was reset and starts anew: fresh PCRs.
	Reset(ctx context.Context) error
	// Close says that the guest has let go of its device. The vTPM stays as it is for
	// the same guest to come back to.
	Close() error
	// End says that the guest is gone for good. The vTPM is shut down in order.
	End() error
}
