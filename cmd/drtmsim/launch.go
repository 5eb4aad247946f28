package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/handover"
	"github.com/antievilmaid/aem/tpm"
)

// simulator is the emulated platform: it knows what to launch and remembers how
// often it did.
type simulator struct {
	config
	progress   io.Writer
	handover   *os.File // nil where none was asked for
	generation uint32
	next       map[tpm.Version]prepared // the launches that can come, by the TPM's family
}

// prepared is a launch whose measurements are computed, in every bank that a TPM of the
// family may have.
type prepared struct {
	data         []byte // what the CPU hashes
	measurements []drtm.Measurement
}

// newSimulator checks what can be checked before QEMU comes: a file that can't
// be launched is better named now than after the guest's start.
func newSimulator(c config, progress io.Writer) (*simulator, error) {
	s := &simulator{config: c, progress: progress}
	if !c.noLaunch {
		if _, _, err := s.target(tpm.V20, []tpm.Alg{tpm.SHA256}); err != nil {
			return nil, err
		}
	}
	if c.handover == "" {
		return s, nil
	}
	f, err := handover.Create(c.handover, c.size)
	if err != nil {
		return nil, err
	}
	s.handover = f
	if err := s.forget(); err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

func (s *simulator) close() {
	if s.handover != nil {
		s.handover.Close()
	}
}

func (s *simulator) say(format string, args ...any) {
	fmt.Fprintf(s.progress, "drtmsim: "+format+"\n", args...)
}

// files reads what will be launched. It is read for each launch, so a file that
// changed makes another launch, as it would on a machine.
func (s *simulator) files() (*drtm.Boot, error) {
	b := &drtm.Boot{Kind: s.kind, Line: s.commandLine, Loader: builtinLoader(s.platform)}
	var err error
	read := func(what, path string) []byte {
		content, e := os.ReadFile(path)
		if e != nil {
			err = errors.Join(err, fmt.Errorf("read the %s to launch: %w", what, e))
		}
		return content
	}
	if s.loader != "" {
		b.Loader = read("loader", s.loader)
	}
	b.Image = read("kernel", s.kernel)
	if s.initrdGiven {
		b.Initrd = read("initramfs", s.initrd)
	}
	for _, m := range s.modules {
		path, line, _ := strings.Cut(m, " ")
		b.Modules = append(b.Modules, drtm.Module{Content: read("module", path), Line: line})
	}
	return b, err
}

// target is the launch of the files on a TPM, and all that it measures.
func (s *simulator) target(v tpm.Version, algs []tpm.Alg) (drtm.Target, []drtm.Measurement, error) {
	b, err := s.files()
	if err != nil {
		return nil, nil, err
	}
	t, err := b.Target(s.platform, v, algs)
	if err != nil {
		return nil, nil, fmt.Errorf("these files can't be launched: %w", err)
	}
	ms, err := t.Measurements()
	if err != nil {
		return nil, nil, fmt.Errorf("these files can't be launched: %w", err)
	}
	return t, ms, nil
}

// prepare reads the files and computes all digests, before the TPM is powered on. From the
// TPM's start to the launch's end the firmware waits, and SeaBIOS takes a TPM 2.0 that needs
// longer than 0.75 s for broken, and switches its hierarchies off (tpm_set_failure).
func (s *simulator) prepare() error {
	if s.noLaunch {
		return nil
	}
	s.next = map[tpm.Version]prepared{}
	for v, algs := range map[tpm.Version][]tpm.Alg{tpm.V12: {tpm.SHA1}, tpm.V20: {tpm.SHA1, tpm.SHA256, tpm.SHA384, tpm.SHA512}} {
		target, ms, err := s.target(v, algs)
		if err != nil {
			return err
		}
		s.next[v] = prepared{target.LaunchData(), ms}
	}
	return nil
}

// inBanks are the measurements with the digests of these banks alone.
func (p prepared) inBanks(algs []tpm.Alg) ([]drtm.Measurement, error) {
	list := slices.Clone(p.measurements)
	for i, m := range list {
		digests := make([]tpm.TaggedDigest, len(algs))
		for j, a := range algs {
			digests[j] = tpm.TaggedDigest{Alg: a, Digest: tpm.Find(m.Digests, a)}
			if digests[j].Digest == nil {
				return nil, fmt.Errorf("the TPM has a %s bank, and digests of that algorithm can't be computed here", a)
			}
		}
		list[i].Digests = digests
	}
	return list, nil
}

// forget hands over that there is no launch: the TPM was reset, and the last
// launch's log must not outlive it.
func (s *simulator) forget() error {
	return s.handOver(handover.Handover{})
}

func (s *simulator) handOver(h handover.Handover) error {
	if s.handover == nil {
		return nil
	}
	s.generation++
	h.Generation = s.generation
	return handover.Write(s.handover, s.size, h)
}

// emulator is what a launch needs of swtpm.
type emulator interface {
	SetLocality(tpm.Locality) error
	Launch(image []byte) error
}

// launch performs a dynamic launch on a TPM that the firmware has just started,
// checks that the TPM now holds what the log says, and hands the log over. The
// locality is afterwards the one that QEMU had chosen.
func (s *simulator) launch(ctl emulator, t measurer, v tpm.Version, back tpm.Locality) error {
	algs, err := t.PCRBanks()
	if err != nil {
		return fmt.Errorf("ask the TPM for its banks: %w", err)
	}
	ms, err := s.next[v].inBanks(algs)
	if err != nil {
		return err
	}
	if err := ctl.Launch(s.next[v].data); err != nil {
		return fmt.Errorf("send the CPU's hash sequence: %w", err)
	}
	if err := extendAll(ctl, t, ms); err != nil {
		return err
	}
	if err := ctl.SetLocality(back); err != nil {
		return fmt.Errorf("give the TPM back its locality %d: %w", back, err)
	}
	if err := confirm(t, algs, ms); err != nil {
		return err
	}
	log, err := drtm.BuildLog(s.platform, v, algs, ms)
	if err != nil {
		return fmt.Errorf("write the launch's log: %w", err)
	}
	b, err := log.AppendTo(nil)
	if err != nil {
		return fmt.Errorf("write the launch's log: %w", err)
	}
	if err := s.handOver(handover.Handover{Platform: s.platform, Log: b}); err != nil {
		return err
	}
	s.say("launched: %s, %s, banks %s, %d measurements", s.platform, v, names(algs), len(log.Events))
	return nil
}

// extendAll makes the measurements that the CPU did not make itself, each at
// the locality of the code that makes it.
func extendAll(ctl emulator, t measurer, ms []drtm.Measurement) error {
	at := tpm.Locality(0xff)
	for _, m := range ms {
		if m.ByCPU() || !m.Extended() {
			continue
		}
		if m.Locality != at {
			if err := ctl.SetLocality(m.Locality); err != nil {
				return fmt.Errorf("choose locality %d: %w", m.Locality, err)
			}
			at = m.Locality
		}
		if err := t.Extend(m.PCR, m.Digests); err != nil {
			return fmt.Errorf("measure the %s into PCR %d: %w", m.Role, m.PCR, err)
		}
	}
	return nil
}

// confirm compares the TPM with the prediction, so that a log that is not true
// never reaches a guest.
func confirm(t measurer, algs []tpm.Alg, ms []drtm.Measurement) error {
	want, err := drtm.Predict(algs, ms)
	if err != nil {
		return err
	}
	set := tpm.PCRSet(tpm.PCRCode, tpm.PCRData)
	got, err := t.ReadPCRs(set)
	if err != nil {
		return fmt.Errorf("read what the launch left in the TPM: %w", err)
	}
	for _, a := range algs {
		for p := range set.All() {
			if w, g := want.Value(a, p), got.Value(a, p); !w.Equal(g) {
				return fmt.Errorf("after the launch PCR %d of the %s bank is %s, where %s was to be expected", p, a, g, w)
			}
		}
	}
	return nil
}

func names(algs []tpm.Alg) string {
	var l []string
	for _, a := range algs {
		l = append(l, a.String())
	}
	return strings.Join(l, ", ")
}
