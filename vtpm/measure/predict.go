package measure

import (
	"slices"

	"github.com/antievilmaid/aem/tpm"
)

// Predict computes what the vTPM's PCRs hold when its guest begins to run: all of them, in
// each of its active banks.
func (l *Launch) Predict(algs []tpm.Alg) (tpm.Banks, error) {
	steps, err := l.Steps(algs)
	if err != nil {
		return nil, err
	}
	launched := slices.ContainsFunc(steps, func(s Step) bool { return s.ByLaunch() })
	banks := make(tpm.Banks, len(algs))
	for i, a := range algs {
		banks[i].Alg = a
		banks[i].Reset(1<<tpm.NumPCRs-1, launched)
		for _, s := range steps {
			if err := banks[i].Extend(s.Event.PCR, tpm.Find(s.Event.Digests, a)); err != nil {
				return nil, err
			}
		}
	}
	return banks, nil
}
