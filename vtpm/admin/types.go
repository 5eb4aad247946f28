package admin

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/antievilmaid/aem/internal/journal"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm/manager"
)

// VTPM is a vTPM as it is told of.
type VTPM struct {
	UUID       string         `json:"uuid"`
	Name       string         `json:"name,omitempty"`
	Family     string         `json:"family,omitempty"` // "2.0" or "1.2"
	Created    time.Time      `json:"created,omitzero"`
	Changed    time.Time      `json:"changed,omitzero"`
	Generation uint64         `json:"generation,omitempty"` // states stored
	Policy     manager.Policy `json:"policy"`
	// WasLate says that it was once attached to a guest that ran already.
	WasLate bool   `json:"was_late,omitempty"`
	Socket  string `json:"socket,omitempty"` // for QEMU
	// Fault is why it is refused, where it is.
	Fault string `json:"fault,omitempty"`
	// Suspended is the name of the guest whose image the vTPM waits for. Only Show has it.
	Suspended string   `json:"suspended,omitempty"`
	Guest     *Guest   `json:"guest,omitempty"`
	Refused   *Refused `json:"refused,omitempty"`
}

// Guest is who has a vTPM.
type Guest struct {
	Domain    string    `json:"domain"`
	Start     string    `json:"start,omitempty"` // as the guest counts: measured, firmware, unmeasured
	Late      bool      `json:"late,omitempty"`
	Since     time.Time `json:"since,omitzero"`
	Connected bool      `json:"connected"`
	Paused    string    `json:"paused,omitempty"`
	Died      bool      `json:"died,omitempty"`
}

// Refused is the last time that a guest did not get a vTPM.
type Refused struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// List is a page of the list.
type List struct {
	Total uint64 `json:"total"`
	VTPMs []VTPM `json:"vtpms"`
	// Next is what the next page comes after; empty where this is the last.
	Next string `json:"next,omitempty"`
	// Fault is where a part of the list can't be proved to be complete.
	Fault string `json:"fault,omitempty"`
}

// Status is the host under the vTPMs.
type Status struct {
	Version  string   `json:"version"`
	TPM      string   `json:"tpm"`
	Grade    string   `json:"grade"`  // launched, static-root, insecure
	Launch   string   `json:"launch"` // in words
	Root     string   `json:"root"`   // its ID
	Approved []string `json:"approved"`
	Epoch    uint64   `json:"epoch"`
	VTPMs    uint64   `json:"vtpms"`
	Running  int      `json:"running"`
	// Frontends are the ways on which guests come, Missing what is not as well protected as it could be.
	Frontends []string `json:"frontends"`
	Missing   []string `json:"missing"`
	Journal   string   `json:"journal,omitempty"` // what is wrong with it
	// Escrow is the last one that was made of the store on this TPM, nil where there is none.
	Escrow *Escrow `json:"escrow,omitempty"`
	// Late is why the TPM's counter does not move, or does not answer: older copies of the store are not
	// refused until it does. Store is why the store answers nothing, so that guests whose state changes are paused.
	Late  string `json:"late,omitempty"`
	Store string `json:"store,omitempty"`
}

// Escrow is the store's key, given out encrypted.
type Escrow struct {
	At time.Time `json:"at"`
	To []string  `json:"to"` // public keys of age's
}

// Escrowing asks for it.
type Escrowing struct {
	To string `json:"to"` // public keys of age's, one in each line
}

// Entry is what the audit log has of it.
func (e Escrow) Entry() journal.Entry {
	return journal.Entry{Kind: journal.Escrowed, Time: e.At, Text: "the store's key was given out, encrypted", Details: map[string]string{"to": strings.Join(e.To, " ")}}
}

// EscrowOf is the inverse of Entry.
func EscrowOf(e *journal.Entry) *Escrow {
	return &Escrow{At: e.Time.UTC(), To: strings.Fields(e.Details["to"])}
}

// Making is what a new vTPM is to be.
type Making struct {
	UUID   string         `json:"uuid,omitempty"` // random where it is empty
	Name   string         `json:"name"`
	Family string         `json:"family"`
	Policy manager.Policy `json:"policy"`
	// State is a permanent state of swtpm's that the vTPM goes on with, and Key its key where it is
	// encrypted. The vTPM is a new one where there is none.
	State []byte `json:"state,omitempty"`
	Key   []byte `json:"key,omitempty"`
}

// Approval is what approving came to.
type Approval struct {
	Before []string `json:"before"`
	After  []string `json:"after"`
	Epoch  uint64   `json:"epoch"`
}

// Fault is something in the store that is not as it was committed.
type Fault struct {
	UUID string `json:"uuid,omitempty"`
	Text string `json:"text"`
}

// Running asks for a guest to be started, Stopping for one to be ended; Suspending for one to be put into an image, which is
// an absolute path, and Resuming for it to go on.
type (
	Running struct {
		Configuration string `json:"configuration"`
	}
	Stopping struct {
		Guest   string `json:"guest"`
		Seconds int    `json:"seconds"` // before its power is cut
	}
	Suspending struct {
		Guest string `json:"guest"`
		Image string `json:"image"`
	}
	Resuming struct {
		VTPM  string `json:"vtpm"`
		Image string `json:"image"`
	}
)

// Word is what is said while something goes on. The last one has Done or Error set.
type Word struct {
	Text  string `json:"text,omitempty"`
	Done  bool   `json:"done,omitempty"`
	Error string `json:"error,omitempty"`
}

// family reads and writes a TPM's family.
func parseFamily(s string) (tpm.Version, error) {
	switch s {
	case "2.0":
		return tpm.V20, nil
	case "1.2":
		return tpm.V12, nil
	}
	return 0, fmt.Errorf("there is no TPM family %q; there are 2.0 and 1.2", s)
}

func familyText(v tpm.Version) string {
	if v == tpm.V12 {
		return "1.2"
	}
	return "2.0"
}

// Error is an answer that is none.
type Error struct {
	Status int    `json:"-"`
	Text   string `json:"error"`
}

func (e *Error) Error() string { return e.Text }

// ErrNoDaemon says that nobody answers at the socket.
var ErrNoDaemon = errors.New("vtpmd does not answer")
