package measure

import (
	"fmt"
	"strings"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// copyable are the PCRs that may be copied from the host. A guest can reset 16 and 23, and 17
// to 22 belong to the launch.
const copyable tpm.PCRs = 1<<16 - 1

// copies extends the values of the host's PCRs into the same PCRs of the vTPM. A PCR can't
// be set, so the vTPM's becomes H(0 || value), and goes on from there with what the guest starts with.
//
// Every bank of the vTPM is extended. One that is left out would be the guest's to extend
// with any value that it likes to have. Where the host has not that bank, the hash of its value in the
// best bank that it has takes the place of the value.
func (b *builder) copies(host tpm.Banks, set tpm.PCRs) error {
	if bad := set &^ copyable; bad != 0 {
		return fmt.Errorf("PCRs %s of the host can't be copied; of those that can, the last is 15", bad)
	}
	for p := range set.All() {
		text := fmt.Appendf(nil, "host PCR %d\n", p)
		for i := range host {
			if v := host[i].Values[p]; len(v) > 0 && len(v) == host[i].Alg.Size() {
				text = fmt.Appendf(text, "%s %s\n", host[i].Alg, v)
			}
		}
		var digests []tpm.TaggedDigest
		for _, a := range b.algs {
			v := host.Value(a, p)
			if len(v) != a.Size() {
				best := bestValue(host, p)
				if best == nil {
					return fmt.Errorf("PCR %d of the host is to be copied, and its value is not known", p)
				}
				v = a.Sum(best)
			}
			digests = append(digests, tpm.TaggedDigest{Alg: a, Digest: v})
		}
		b.add(localityGuest, p, eventlog.IPL, digests, []byte(strings.TrimSuffix(string(text), "\n")))
	}
	return nil
}

// bestValue is a PCR's value in the host's best bank: SHA-256, which most have, and SHA-1
// only where there is nothing else.
func bestValue(host tpm.Banks, p tpm.PCR) tpm.Digest {
	for _, a := range []tpm.Alg{tpm.SHA256, tpm.SHA384, tpm.SHA512, tpm.SHA3256, tpm.SHA3384, tpm.SHA3512, tpm.SM3, tpm.SHA1} {
		if v := host.Value(a, p); len(v) == a.Size() {
			return v
		}
	}
	return nil
}
