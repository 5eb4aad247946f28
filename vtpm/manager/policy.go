package manager

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm/filter"
)

// Policy is what the owner decided about one vTPM. The store keeps it in the record.
type Policy struct {
	// OnlyMeasured refuses a guest whose start nobody measured.
	OnlyMeasured bool `json:"only_measured,omitempty"`
	// Localities are those that the guest may use beside 0, of 1 to 3. A guest with locality 2 can
	// extend PCRs 17 and 18, and so say of itself what it likes.
	Localities []tpm.Locality `json:"localities,omitempty"`
	// HostPCRs are PCRs of the host, such as "0-7,12", whose values are extended into the same PCRs
	// of the vTPM.
	HostPCRs string `json:"host_pcrs,omitempty"`
	// QEMU is the user whose QEMU may connect to the vTPM's socket. Where it is nil there is
	// no such socket.
	QEMU *uint32 `json:"qemu,omitempty"`
}

// ParsePolicy reads what is in a record (store.Record.Config). Unknown keys are refused: a later version's
// restriction must not be dropped in silence.
func ParsePolicy(b []byte) (Policy, error) {
	var p Policy
	if len(b) == 0 {
		return p, nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return p, fmt.Errorf("read the vTPM's policy: %w", err)
	}
	return p, p.check()
}

func (p Policy) check() error {
	for _, l := range p.Localities {
		if l < 1 || l > 3 {
			return fmt.Errorf("a guest can be given the localities 1 to 3 beside 0, and not %d", l)
		}
	}
	_, err := p.copies()
	return err
}

// copies are the PCRs of HostPCRs.
func (p Policy) copies() (tpm.PCRs, error) {
	if p.HostPCRs == "" {
		return 0, nil
	}
	return tpm.ParsePCRs(p.HostPCRs)
}

// localities are all that the guest may use.
func (p Policy) localities() filter.Localities {
	set := filter.OnlyZero
	for _, l := range p.Localities {
		set |= 1 << l
	}
	return set
}

func (p Policy) bytes() ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	return json.Marshal(p)
}
