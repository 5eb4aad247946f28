package drtm

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// stageEvents tells which of a log's events a stage measured, without its approval, and
// which roles it has in PCR 17; both are nil where there is no stage.
func stageEvents(log *eventlog.Log, roles []Role) (own []bool, code []Role) {
	outline := slices.Index(roles, RoleStage)
	if outline < 0 {
		return nil, nil
	}
	code, _, _ = readOutline(&log.Events[outline])
	own = make([]bool, len(roles))
	left := len(code)
	for i := len(roles) - 1; i >= 0; i-- {
		e := &log.Events[i]
		own[i] = e.PCR == tpm.PCRData && i >= outline
		if e.PCR == tpm.PCRCode && e.Type == eventlog.Slaunch && left > 0 {
			own[i] = true
			left--
		}
	}
	return own, code
}

// WithoutStage is the log of a launch alone, without what the launched Linux measured of
// a stage and its approval. [Next] computes the next launch from it, whichever stage
// follows that, and [Forecast.Then] what follows.
func WithoutStage(log *eventlog.Log) *eventlog.Log {
	roles := Roles(log)
	own, _ := stageEvents(log, roles)
	if own == nil {
		return log
	}
	return log.Without(func(i int) bool { return own[i] || roles[i] == RolePolicyKey || roles[i] == RoleApproval })
}

// Then adds to the next launch what the launched Linux will measure of a stage, and of
// its approval, where one is asked for. Against the good launch's stage, if that had
// one, it says what changed. All is computed from the stage itself; what it says of the
// machine is marked as kept where the good launch measured the same, and else as assumed,
// because the system that reads it now is another than the one that will.
func (f *Forecast) Then(good *eventlog.Log, approval *Approval, stage *Stage) error {
	var algs []tpm.Alg
	for _, a := range f.Log.Algs {
		algs = append(algs, a.Alg)
	}
	ms, err := stage.Measurements(algs)
	if err != nil {
		return err
	}
	if approval != nil {
		ms = append(approval.Measurements(algs), ms...)
	}
	before := stageDigests(good)
	count := map[Role]int{}
	for _, m := range ms {
		s := Step{Event: len(f.Log.Events), Role: m.Role, Of: m.Role, How: Recomputed, Thing: "stage 1", Changed: true}
		if n := count[m.Role]; n < len(before[m.Role]) {
			s.Changed = !slices.EqualFunc(before[m.Role][n], m.Digests, sameDigest)
		}
		count[m.Role]++
		if slices.ContainsFunc(stage.Facts, func(f Fact) bool { return f.Kind.ofMachine() && bytes.Equal(f.text(), m.Data) }) {
			s.How = map[bool]How{false: Kept, true: Assumed}[s.Changed]
		}
		if err := f.Log.Append(m.Event()); err != nil {
			return fmt.Errorf("log the measurement of the %s: %w", m.Role, err)
		}
		f.Steps = append(f.Steps, s)
	}
	return nil
}

// stageDigests are what a log's stage and its approval measured, by role and in order.
func stageDigests(log *eventlog.Log) map[Role][][]tpm.TaggedDigest {
	if log == nil {
		return nil
	}
	roles := Roles(log)
	own, _ := stageEvents(log, roles)
	list := map[Role][][]tpm.TaggedDigest{}
	for i, r := range roles {
		if own != nil && own[i] || r == RolePolicyKey || r == RoleApproval {
			list[r] = append(list[r], log.Events[i].Digests)
		}
	}
	return list
}

func sameDigest(a, b tpm.TaggedDigest) bool { return a.Alg == b.Alg && a.Digest.Equal(b.Digest) }

// ofMachine reports whether a fact is what a kernel says of the machine, which another
// kernel may say differently.
func (k FactKind) ofMachine() bool { return k == FactCPU || k == FactSMBIOS }

// KeepFacts has a stage's facts of CPU and firmware be those that a good launch's stage
// measured, in the banks that its log has: the system that computes the next launch may
// be told other things of the same machine than the stage 1 that measures it.
func (s *Stage) KeepFacts(good *eventlog.Log) {
	roles := Roles(good)
	for i := range s.Facts {
		f := &s.Facts[i]
		n := -1
		for k, r := range roles {
			if r == RoleFact && f.Kind.ofMachine() && bytes.Equal(good.Events[k].Data, f.text()) {
				n = k
			}
		}
		if n < 0 {
			continue
		}
		kept, now := good.Events[n].Digests, f.Sum
		f.Sum = func(algs []tpm.Alg) ([]tpm.TaggedDigest, error) {
			list, err := now(algs)
			for i := range list {
				if d := tpm.Find(kept, list[i].Alg); d != nil {
					list[i].Digest = d
				}
			}
			return list, err
		}
	}
}
