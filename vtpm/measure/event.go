package measure

import (
	"encoding/hex"
	"fmt"

	"github.com/antievilmaid/aem/tpm"
)

// event is this guest's launch event in its canonical form, which PCR 18 is extended with. A
// dash stands for what is not there, or not known.
//
//	aem vtpm guest 1
//	vtpm 11111111-2222-3333-4444-555555555555
//	start measured
//	configuration 8d0f...
//	kernel 5be1...
//	command-line e3b0...
//	initrd -
//	copies 0,1,7
//
// Digests are SHA-256 in every bank. What changes from start to start (the domain's number, its
// birth, how often the vTPM's state was saved) is not in it: a secret that the guest sealed
// to PCR 18 has to open when it is started again.
func (l *Launch) event() []byte {
	digest := func(d tpm.Digest) string {
		if l.start() != Measured || d == nil {
			return "-"
		}
		return hex.EncodeToString(d)
	}
	sum := func(f *File) string {
		if f == nil {
			return "-"
		}
		return digest(tpm.Find(f.Digests, tpm.SHA256))
	}
	copies := "-"
	if l.Copies != 0 {
		copies = l.Copies.String()
	}
	return fmt.Appendf(nil, "aem vtpm guest 1\nvtpm %s\nstart %s\nconfiguration %s\nkernel %s\ncommand-line %s\ninitrd %s\ncopies %s\n",
		l.Guest.UUID, l.start(), sum(l.Configuration), sum(l.Kernel), digest(tpm.SHA256.Sum([]byte(l.CommandLine))), sum(l.Initrd), copies)
}
