package launch

import (
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// The PCRs that a stage is measured into, and those that tell a launch from an extend.
var (
	measured = tpm.PCRSet(tpm.PCRCode, tpm.PCRData)
	dynamic  = tpm.PCRSet(17, 18, 19, 20, 21, 22)
)

// Machine is the means by which a stage is launched.
type Machine struct {
	// Open opens the TPM at locality 2. It is called again where something fails after
	// the locality was given back.
	Open func() (*TPM, error)
	// Log finds the log of the launch that this Linux belongs to.
	Log func() (*eventlog.Log, error)
	// Stage reads what to start, each thing once: what it returns is measured, and is
	// what Load gets.
	Stage func() (*drtm.Stage, error)
	// Demand is that a policy approves of the stage; nil where none has to.
	Demand *Demand
	// Load hands the stage to who will start it, with the log that goes on to it.
	Load func(s *drtm.Stage, log []byte) error
	// Execute starts what was loaded. It comes back only where that was not possible.
	Execute func() error
}

// Launch loads, measures and starts the next stage. It does not come back where that
// works; the error is always a [*Failure].
//
// The bytes are loaded before they are measured, since loading runs nothing and is what
// fails most easily. What Load holds is what was read, and the same bytes were
// hashed; between the first extend and the start there is nothing that reads a file.
func (m *Machine) Launch() error {
	run := &run{machine: m, step: OpenTPM}
	err := run.launch()
	run.release()
	return run.failed(err)
}

// run is one try.
type run struct {
	machine *Machine
	step    Step
	tpm     *TPM
	chip    chip
	// extended counts the plan's measurements that the TPM has.
	extended int
}

func (r *run) open() (err error) {
	if r.tpm, err = r.machine.Open(); err != nil {
		return err
	}
	if r.chip, err = r.tpm.chip(); err != nil {
		r.release()
	}
	return err
}

func (r *run) release() error {
	t := r.tpm
	r.tpm, r.chip = nil, nil
	if t == nil {
		return nil
	}
	return t.Close()
}

func (r *run) launch() (err error) {
	// A panic must not leave the PCRs open either: what it would skip is the cap.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("this program made a mistake: %v", p)
		}
	}()
	if err := r.open(); err != nil {
		return err
	}
	plan, log, err := r.look()
	if err != nil {
		return err
	}
	if err := notVerified(plan.Launch); err != nil {
		return err
	}
	if err := r.authority(plan); err != nil {
		return err
	}
	// The key is measured before anything that it signed is looked at.
	if plan.Approval != nil {
		if err := r.extend(plan); err != nil {
			return err
		}
	}
	if err := r.read(plan); err != nil {
		return err
	}
	if plan.Refusal != nil {
		r.step = Approval
		if r.machine.Demand.Anyway == nil {
			return plan.Refusal
		}
		r.machine.Demand.Anyway(plan.Refusal)
	}
	r.step = ExtendLog
	if err := plan.extendLog(log); err != nil {
		return err
	}
	r.step = LoadKernel
	if err := r.machine.Load(plan.Stage, plan.log); err != nil {
		return err
	}
	r.step = Extend
	if err := r.extend(plan); err != nil {
		return err
	}
	r.step = Confirm
	if err := r.confirm(plan); err != nil {
		return err
	}
	r.step = Execute
	if err := r.release(); err != nil {
		return fmt.Errorf("give locality 2 back: %w", err)
	}
	return errors.Join(ErrReturned, r.machine.Execute())
}

// extend measures what the TPM does not have yet.
func (r *run) extend(p *Plan) error {
	for _, m := range p.Measurements[r.extended:] {
		if err := r.chip.Extend(m.PCR, m.Digests); err != nil {
			return fmt.Errorf("measure the %s: %w", m.Role, err)
		}
		r.extended++
	}
	return nil
}

// Plan is what a launch would measure.
type Plan struct {
	Stage        *drtm.Stage
	Measurements []drtm.Measurement
	// Launch is what is known of the launch that the stage would continue.
	Launch drtm.Launch
	// Approval is what a policy says of the stage; nil where none has to approve.
	// Refusal, which wraps [ErrNotApproved], says why it does not.
	Approval *drtm.Approval
	Refusal  error
	// Log is that launch's log with the stage's events, and PCRs what it leads to. Both
	// are nil where the launch is not verified.
	Log  *eventlog.Log
	PCRs tpm.Banks

	algs []tpm.Alg
	log  []byte
}

// Plan computes what Launch would measure, and changes nothing. The TPM may be open at
// any locality. Where no launch can be continued the plan says so in Launch, and has
// the measurements all the same. The error is a [*Failure].
func (m *Machine) Plan() (*Plan, error) {
	r := &run{machine: m, step: OpenTPM}
	if err := r.open(); err != nil {
		return nil, &Failure{Step: r.step, Err: err}
	}
	defer r.release()
	p, log, err := r.look()
	if err != nil {
		return nil, &Failure{Step: r.step, Err: err}
	}
	if err := r.authority(p); err != nil {
		return nil, &Failure{Step: r.step, Err: err}
	}
	if err := r.read(p); err != nil {
		return nil, &Failure{Step: r.step, Err: err}
	}
	if p.Launch.State == drtm.Verified {
		r.step = ExtendLog
		if err := p.extendLog(log); err != nil {
			return nil, &Failure{Step: r.step, Err: err}
		}
	}
	return p, nil
}

// look finds out what is known of the launch.
func (r *run) look() (*Plan, *eventlog.Log, error) {
	r.step = ReadPCRs
	actual, err := r.chip.ReadPCRs(dynamic)
	if err != nil {
		return nil, nil, err
	}
	r.step = FindLog
	log, err := r.machine.Log()
	if err != nil {
		return nil, nil, err
	}
	r.step = Check
	return &Plan{Launch: drtm.Check(log, actual), algs: actual.Algs()}, log, nil
}

// authority reads the key of the policy that has to approve.
func (r *run) authority(p *Plan) error {
	d := r.machine.Demand
	if d == nil {
		return nil
	}
	r.step = Authority
	key, err := d.Key()
	if err != nil {
		return err
	}
	p.Approval = &drtm.Approval{Key: key}
	p.Measurements = p.Approval.Measurements(p.algs)[:1]
	return nil
}

// read reads the stage, hashes it in every bank that the TPM has, and asks the policy.
func (r *run) read(p *Plan) (err error) {
	r.step = ReadFiles
	if p.Stage, err = r.machine.Stage(); err != nil {
		return err
	}
	r.step = Hash
	if p.Approval == nil {
		p.Measurements, err = p.Stage.Measurements(p.algs)
		return err
	}
	ms, refusal, err := r.machine.Demand.measure(p.Approval.Key, p.Stage, p.algs)
	if err != nil {
		return err
	}
	p.Refusal, p.Approval.Approved = refusal, refusal == nil
	p.Measurements = append(p.Approval.Measurements(p.algs), ms...)
	return nil
}

// notVerified is why nothing may be measured.
func notVerified(l drtm.Launch) error {
	switch l.State {
	case drtm.Verified:
		return nil
	case drtm.NotLaunched:
		return fmt.Errorf("%w: %s", ErrNotLaunched, l.Reason)
	}
	return fmt.Errorf("%w: %s", ErrUnproven, l.Reason)
}

// extendLog continues a copy of the log, in its format.
func (p *Plan) extendLog(log *eventlog.Log) error {
	b, err := log.AppendTo(nil)
	if err != nil {
		return err
	}
	if p.Log, err = eventlog.Parse(b); err != nil {
		return err
	}
	for _, m := range p.Measurements {
		if err := p.Log.Append(m.Event()); err != nil {
			return fmt.Errorf("log the measurement of the %s: %w", m.Role, err)
		}
	}
	p.PCRs = drtm.Replay(p.Log)
	p.log, err = p.Log.AppendTo(nil)
	return err
}

// confirm asks the TPM whether it holds what the log, as the next stage will read it,
// leads to. Otherwise the next stage would be started with PCRs that nobody can explain,
// or somebody on the bus dropped an extend.
func (r *run) confirm(p *Plan) error {
	actual, err := r.chip.ReadPCRs(dynamic)
	if err != nil {
		return err
	}
	log, err := eventlog.Parse(p.log)
	if err != nil {
		return err
	}
	if l := drtm.Check(log, actual); l.State != drtm.Verified {
		return fmt.Errorf("%w: %s", ErrLost, l.Reason)
	}
	return nil
}

// failed caps the PCRs, unless they show that there never was a launch: then nothing
// sealed to one can open, and extending them would only hide that.
func (r *run) failed(err error) *Failure {
	f := &Failure{Step: r.step, Err: err}
	if errors.Is(err, ErrNotLaunched) {
		return f
	}
	f.CapErr = r.cap("aem launch: refused " + string(f.Step))
	f.Capped = f.CapErr == nil
	return f
}

// cap extends both PCRs in every bank, whichever the TPM has. One capped PCR is enough
// to close what is sealed to both, so the second is tried when the first failed.
func (r *run) cap(text string) error {
	if err := r.open(); err != nil {
		return err
	}
	var list []error
	for p := range measured.All() {
		list = append(list, r.chip.Event(p, []byte(text)))
	}
	return errors.Join(append(list, r.release())...)
}
