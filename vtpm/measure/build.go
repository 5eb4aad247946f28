package measure

import (
	"fmt"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// builder collects steps.
type builder struct {
	algs  []tpm.Alg
	steps []Step
}

func (b *builder) add(at tpm.Locality, p tpm.PCR, t eventlog.Type, digests []tpm.TaggedDigest, text []byte) {
	b.steps = append(b.steps, Step{at, eventlog.Event{PCR: p, Type: t, Digests: digests, Data: text}})
}

// say measures a text, which then is no hearsay: the digest is that of the event's data.
func (b *builder) say(at tpm.Locality, p tpm.PCR, text []byte) {
	b.add(at, p, eventlog.Action, tpm.SumAll(b.algs, text), text)
}

// inherit measures a text into a PCR that a guest can't extend. Without a launch of the host
// it must not look as if there had been one: then PCRs 17 to 22 keep the ones that they start with.
func (b *builder) inherit(at tpm.Locality, p tpm.PCR, text []byte, g Grade) {
	if g == Launched {
		b.say(at, p, text)
	}
}

// file measures a file, whose digests are known.
func (b *builder) file(p tpm.PCR, t eventlog.Type, what string, f *File) error {
	var digests []tpm.TaggedDigest
	for _, a := range b.algs {
		d := tpm.Find(f.Digests, a)
		if len(d) != a.Size() {
			return fmt.Errorf("the vTPM has a %s bank, and the %s was not measured for it", a, what)
		}
		digests = append(digests, tpm.TaggedDigest{Alg: a, Digest: d})
	}
	b.add(localityGuest, p, t, digests, f.text(what))
	return nil
}

// guest measures what the guest starts with: kernel, then command line, then initramfs,
// as pv-grub did, after the configuration that it did not know.
func (b *builder) guest(l *Launch) error {
	switch l.start() {
	case Firmware:
		return nil
	case Unmeasured, late:
		// As a separator does: from here on nothing leads to a value that a start with known
		// files has.
		for _, p := range []tpm.PCR{pcrConfiguration, pcrKernel, pcrKernelData} {
			b.say(localityGuest, p, []byte(textUnmeasured))
		}
		return nil
	}
	if err := b.file(pcrConfiguration, eventlog.PlatformConfigFlags, "guest configuration", l.Configuration); err != nil {
		return err
	}
	if err := b.file(pcrKernel, eventlog.IPL, "guest kernel", l.Kernel); err != nil {
		return err
	}
	// The line may hold a secret, and the log goes to whoever judges the guest.
	b.add(localityGuest, pcrKernelData, eventlog.IPL, tpm.SumAll(b.algs, []byte(l.CommandLine)), []byte("guest command line"))
	if l.Initrd == nil {
		// Otherwise a guest that was started without an initramfs could extend the digest of
		// one, and hold the PCRs of a guest that was started with it.
		b.say(localityGuest, pcrKernelData, []byte(textNoInitrd))
		return nil
	}
	return b.file(pcrKernelData, eventlog.IPL, "guest initrd", l.Initrd)
}
