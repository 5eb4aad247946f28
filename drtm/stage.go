package drtm

import (
	"fmt"
	"strings"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// Stage is what a launched Linux starts in its own place: the next link of the
// chain. Everything in it is measured before any of it runs.
type Stage struct {
	Kind    Kind   // Linux, or Xen by Multiboot
	Image   []byte // the kernel or Xen, as it is handed over
	Line    string // its command line
	Initrd  []byte // of Linux; nil without one
	Modules []Module
	Facts   []Fact
}

// FactKind is what a [Fact] was read from.
type FactKind string

// The kinds of facts.
const (
	FactFile   FactKind = "file"
	FactDevice FactKind = "device"
	FactCPU    FactKind = "cpu"
	FactSMBIOS FactKind = "smbios"
)

// Fact is something of the machine that is measured with the stage and not started:
// a file, a whole block device, what the CPU and the firmware's tables say.
type Fact struct {
	Kind FactKind
	Name string // the path of a file or device; empty for the others
	// Sum hashes it. A device is larger than memory, so it is not kept.
	Sum func([]tpm.Alg) ([]tpm.TaggedDigest, error)
}

func (f Fact) String() string { return strings.TrimSpace(string(f.Kind) + " " + f.Name) }

// text is that of its event.
func (f Fact) text() []byte { return []byte("Measured " + f.String()) }

// stageTitle begins the text of a stage's first event.
const stageTitle = "aem launch"

// outline is what a stage's first event measures, one line for each thing that
// follows. Without it a kernel and its initramfs would leave the same PCRs as a
// hypervisor and its module of the same bytes, and the digest of a file would not say
// of which file.
func (s *Stage) outline() []string {
	l := []string{stageTitle, s.Kind.String()}
	if s.Initrd != nil {
		l = append(l, "initrd")
	}
	for range s.Modules {
		l = append(l, "module")
	}
	for _, f := range s.Facts {
		l = append(l, f.String())
	}
	return l
}

// check refuses what could not be told apart afterwards.
func (s *Stage) check() error {
	switch {
	case s.Kind != Linux && s.Kind != Xen:
		return fmt.Errorf("%w: a launched Linux can start linux or xen, not %s", ErrTarget, s.Kind)
	case len(s.Image) == 0:
		return fmt.Errorf("%w: the %s is empty", ErrTarget, s.Kind)
	case s.Kind == Linux && s.Modules != nil:
		return fmt.Errorf("%w: Linux takes no modules", ErrTarget)
	case s.Kind == Xen && s.Initrd != nil:
		return fmt.Errorf("%w: the initramfs under Xen is its second module", ErrTarget)
	}
	lines := []string{s.Line}
	for _, m := range s.Modules {
		lines = append(lines, m.Line)
	}
	for _, l := range lines {
		if strings.ContainsRune(l, 0) {
			return fmt.Errorf("%w: a command line holds a zero byte, at which its reader would stop", ErrTarget)
		}
	}
	for _, f := range s.Facts {
		named := f.Kind == FactFile || f.Kind == FactDevice
		if !named && f.Kind != FactCPU && f.Kind != FactSMBIOS || named == (f.Name == "") || strings.ContainsAny(f.Name, "\n\x00") {
			return fmt.Errorf("%w: %q can't be measured beside it", ErrTarget, f.String())
		}
	}
	return nil
}

// Measurements are what the stage extends, in order, at locality 2: code in PCR 17,
// data in PCR 18, with the types and, where there is one, the texts of TrenchBoot's
// stages (docs/measurements.md). The error wraps [ErrTarget], or is a fact's.
func (s *Stage) Measurements(algs []tpm.Alg) ([]Measurement, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	for _, a := range algs {
		if !a.Available() {
			return nil, fmt.Errorf("%w: digests for the %s bank can't be computed here", ErrBanks, a)
		}
	}
	if len(algs) == 0 {
		return nil, fmt.Errorf("%w: none is known", ErrBanks)
	}
	os := machine{algs: algs}.os
	outline := strings.Join(s.outline(), "\n")
	ms := []Measurement{os(RoleStage, tpm.PCRData, outline, []byte(outline))}
	switch s.Kind {
	case Linux:
		ms = append(ms,
			os(RoleKernel, tpm.PCRCode, "Measured Kernel", s.Image),
			os(RoleCommandLine, tpm.PCRData, "Measured Kernel command line", []byte(s.Line)))
		if s.Initrd != nil {
			ms = append(ms, os(RoleInitrd, tpm.PCRCode, "Measured Kernel initrd", s.Initrd))
		}
	case Xen:
		ms = append(ms,
			os(RoleHypervisor, tpm.PCRCode, "Measured Xen", s.Image),
			os(RoleCommandLine, tpm.PCRData, "Xen's command line", []byte(s.Line)))
		for i, m := range s.Modules {
			ms = append(ms,
				os(RoleModuleLine, tpm.PCRData, "MB module string", []byte(m.Line)),
				os(moduleRole(i), tpm.PCRCode, "MB module", m.Content))
		}
	}
	for _, f := range s.Facts {
		digests, err := f.Sum(algs)
		if err != nil {
			return nil, fmt.Errorf("measure %s: %w", f, err)
		}
		ms = append(ms, Measurement{
			Role: RoleFact, PCR: tpm.PCRData, Type: eventlog.Slaunch, Data: f.text(),
			Digests: digests, Locality: localityOS,
		})
	}
	return ms, nil
}

// ChainLaunch is a launch of a Linux that then starts a stage.
type ChainLaunch struct {
	First    Target
	Algs     []tpm.Alg
	Approval *Approval // nil where no policy is asked
	Stage    *Stage
}

// LaunchData is what the CPU hashes.
func (l ChainLaunch) LaunchData() []byte { return l.First.LaunchData() }

// Measurements are those of the launch, and then those of the approval and the stage.
func (l ChainLaunch) Measurements() ([]Measurement, error) {
	ms, err := l.First.Measurements()
	if err != nil {
		return nil, err
	}
	more, err := l.Stage.Measurements(l.Algs)
	if err != nil {
		return nil, err
	}
	if l.Approval != nil {
		ms = append(ms, l.Approval.Measurements(l.Algs)...)
	}
	return append(ms, more...), nil
}

// stageRoles names the events of a stage and returns the others. The stage's first
// event has its text measured: only where the digests are that text's is it believed,
// and the rest must fit it. The events of PCR 17 have an order among themselves
// alone, so the stage's are the last ones there.
func stageRoles(log *eventlog.Log, roles []Role, events []int) (rest []int) {
	for n := len(events) - 1; n >= 0; n-- {
		e := &log.Events[events[n]]
		code, data, ok := readOutline(e)
		if !ok {
			continue
		}
		var stage []int
		codes, datas := len(code), 0
		for k := len(events) - 1; k >= 0; k-- {
			switch x := &log.Events[events[k]]; {
			case x.PCR == tpm.PCRCode && x.Type == eventlog.Slaunch && codes > 0:
				codes--
				roles[events[k]] = code[codes]
				stage = append(stage, k)
			case x.PCR == tpm.PCRData && k > n:
				datas++
			}
		}
		if codes > 0 || datas != len(data) {
			for _, k := range stage {
				roles[events[k]] = RoleUnknown
			}
			return events
		}
		approvalRoles(log, roles, events, n)
		for k, i := range events {
			switch {
			case k == n:
				roles[i] = RoleStage
			case k > n && log.Events[i].PCR == tpm.PCRData:
				roles[i], data = data[0], data[1:]
			case roles[i] == RoleUnknown:
				rest = append(rest, i)
			}
		}
		return rest
	}
	return events
}

// readOutline says what follows an event that begins a stage, by PCR.
func readOutline(e *eventlog.Event) (code, data []Role, ok bool) {
	lines := strings.Split(string(e.Data), "\n")
	if e.PCR != tpm.PCRData || len(lines) < 2 || lines[0] != stageTitle || !textMeasured(e) {
		return nil, nil, false
	}
	switch lines[1] {
	case Linux.String():
		code = []Role{RoleKernel}
	case Xen.String():
		code = []Role{RoleHypervisor}
	default:
		return nil, nil, false
	}
	data = []Role{RoleCommandLine}
	modules := 0
	for _, l := range lines[2:] {
		switch l {
		case "initrd":
			code = append(code, RoleInitrd)
		case "module":
			code, data = append(code, moduleRole(modules)), append(data, RoleModuleLine)
			modules++
		default:
			data = append(data, RoleFact)
		}
	}
	return code, data, true
}
