package launch

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"time"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/tpm"
)

// Demand is that a signed policy approves of the stage before it is started. What
// demands it, the key and the oldest version must be measured themselves: they belong
// into the initramfs of the launched Linux. The policy can lie anywhere.
type Demand struct {
	Key    func() (ed25519.PublicKey, error)
	Policy func() ([]byte, error) // its file
	Oldest uint64                 // the lowest version that is taken
	Now    func() time.Time
	// Anyway is told why a stage was not approved, which is then measured as such and
	// launched all the same. Without it the stage is refused.
	Anyway func(error)
}

// Approval says how a stage would be measured, for a prediction. The error wraps
// [ErrNotApproved] where it would be refused.
func (d *Demand) Approval(s *drtm.Stage) (*drtm.Approval, error) {
	key, err := d.Key()
	if err != nil {
		return nil, err
	}
	_, refusal, err := d.measure(key, s, nil)
	switch {
	case err != nil:
		return nil, err
	case refusal != nil && d.Anyway == nil:
		return nil, refusal
	case refusal != nil:
		d.Anyway(refusal)
	}
	return &drtm.Approval{Key: key, Approved: refusal == nil}, nil
}

// measure hashes a stage in some banks, and once more for the policy, in one pass. The
// refusal says why no policy approves of it, and wraps [ErrNotApproved]; err, why the
// stage can't be hashed.
func (d *Demand) measure(key ed25519.PublicKey, s *drtm.Stage, algs []tpm.Alg) (ms []drtm.Measurement, refusal, err error) {
	all := slices.Clone(algs)
	policy, refusal := d.read(key)
	if refusal == nil && !slices.Contains(all, policy.Alg()) {
		all = append(all, policy.Alg())
	}
	if len(all) == 0 {
		return nil, notApproved(refusal), nil // there is nothing to compare, and no bank
	}
	if ms, err = s.Measurements(all); err != nil {
		return nil, nil, err
	}
	if refusal == nil {
		_, refusal = policy.Lists(ms)
	}
	for i := range ms {
		ms[i].Digests = slices.DeleteFunc(ms[i].Digests, func(t tpm.TaggedDigest) bool { return !slices.Contains(algs, t.Alg) })
	}
	return ms, notApproved(refusal), nil
}

func (d *Demand) read(key ed25519.PublicKey) (*Policy, error) {
	file, err := d.Policy()
	if err != nil {
		return nil, err
	}
	p, err := ReadPolicy(file, key)
	if err != nil {
		return nil, err
	}
	return p, p.Holds(d.Now(), d.Oldest)
}

func notApproved(cause error) error {
	if cause == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrNotApproved, cause)
}
