package stage1

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/device"
)

// ErrLocality says that the TPM was opened in a way that has no locality to choose.
var ErrLocality = errors.New("the kernel's driver sends every command at locality 0, which can't extend PCRs 17 and 18")

// withoutDriver is the machine's own TPM at locality 2, by its registers.
const withoutDriver = "tis:2"

// OpenTPM opens a TPM as device.Options.Spec names it, at locality 2; the machine's own
// where spec is empty.
func OpenTPM(spec string, wait time.Duration) (*launch.TPM, error) {
	if spec == "" {
		spec = withoutDriver
	}
	d, err := device.Open(device.Options{Spec: spec, Wait: wait})
	if err != nil {
		return nil, err
	}
	ch, ok := d.Channel.(tpm.LocalityChannel)
	if !ok {
		d.Close()
		return nil, fmt.Errorf("%s: %w", d.Path, ErrLocality)
	}
	t := &launch.TPM{Channel: d, Version: d.Version, Closer: back{ch, d}}
	if err := ch.SetLocality(2); err != nil {
		d.Close()
		return nil, fmt.Errorf("take locality 2 of the TPM at %s: %w", d.Path, err)
	}
	return t, nil
}

// LookAtTPM opens a TPM at locality 0, for a plan.
func LookAtTPM(spec string, wait time.Duration) (*launch.TPM, error) {
	d, err := device.Open(device.Options{Spec: spec, Wait: wait})
	if err != nil {
		return nil, err
	}
	return &launch.TPM{Channel: d, Version: d.Version, Closer: d}, nil
}

// back gives the locality back before the TPM is closed.
type back struct {
	tpm.LocalityChannel
	io.Closer
}

func (b back) Close() error { return errors.Join(b.SetLocality(0), b.Closer.Close()) }
