package aem

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/bootentry"
	"github.com/antievilmaid/aem/internal/unpack"
	"github.com/antievilmaid/aem/tpm"
)

// Predict computes the next launch from the log of a good one and the boot entries
// of then and now, and what its stage 1 starts; chain is nil where it has none. before
// may be nil where the files that booted are gone.
func Predict(good *LaunchLog, before, after *drtm.Boot, chain *Chain) (*drtm.Forecast, error) {
	things, err := drtm.Things(before, after, decompressed)
	if err != nil {
		return nil, err
	}
	return next(good, things, chain)
}

// PredictSimulated computes the launch that drtmsim makes of a boot entry, and what
// aem launch adds to it, where chain is not nil.
func PredictSimulated(p drtm.Platform, v tpm.Version, algs []tpm.Alg, after *drtm.Boot, chain *Chain) (*drtm.Forecast, error) {
	target, err := after.Target(p, v, algs)
	if err != nil {
		return nil, err
	}
	if chain != nil {
		target = drtm.ChainLaunch{First: target, Algs: algs, Approval: chain.Approval, Stage: chain.Stage}
	}
	ms, err := target.Measurements()
	if err != nil {
		return nil, err
	}
	log, err := drtm.BuildLog(p, v, algs, ms)
	if err != nil {
		return nil, err
	}
	f := &drtm.Forecast{Log: log}
	for i, m := range ms {
		if m.Extended() {
			f.Steps = append(f.Steps, drtm.Step{Event: i, Role: m.Role, How: drtm.Recomputed, Thing: "the simulator"})
		}
	}
	return f, nil
}

// decompressed is what is inside a compressed file, such as xen.gz; nil otherwise.
func decompressed(b []byte) []byte {
	out, _, _, err := unpack.Decompress(b)
	if err != nil {
		return nil
	}
	return out
}

// BootOf reads what GRUB would load for an entry of its menu. Of several loaders, the
// good launch's log, where it is given, tells which one fits this machine.
func BootOf(menu *bootentry.Menu, e *bootentry.Entry, good *eventlog.Log) (*drtm.Boot, error) {
	b, _, err := loadBoot(menu, e, good)
	return b, err
}

// loadBoot is BootOf, with the files as they lie on the disk.
func loadBoot(menu *bootentry.Menu, e *bootentry.Entry, good *eventlog.Log) (*drtm.Boot, []bootentry.LoadedFile, error) {
	b := &drtm.Boot{Line: e.Kernel.Line}
	switch e.Kind {
	case bootentry.Linux:
		b.Kind = drtm.Linux
	case bootentry.Multiboot, bootentry.Multiboot2:
		b.Kind = drtm.Xen
		if strings.HasPrefix(path.Base(e.Kernel.Path), "tboot") {
			b.Kind = drtm.Tboot
		}
	}
	loaded, err := menu.Load(e, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("load what the boot entry %q starts: %w", e.Title, err)
	}
	if b.Kind == 0 {
		return nil, nil, fmt.Errorf("the boot entry %q starts another loader, whose files it does not name; give them by hand: %w", e.Title, ErrNotPossible)
	}
	b.Image, b.Initrd = loaded.Kernel, loaded.Initrd
	for i, m := range e.Modules {
		b.Modules = append(b.Modules, drtm.Module{Content: loaded.Modules[i], Line: m.Line})
	}
	if b.Loader, err = chooseLoader(loaded.SlaunchModules, good); err != nil {
		return nil, nil, fmt.Errorf("the boot entry %q: %w", e.Title, err)
	}
	return b, loaded.Files, nil
}

// chooseLoader takes the only loader, or the one that the good launch was made with.
func chooseLoader(modules [][]byte, good *eventlog.Log) ([]byte, error) {
	switch len(modules) {
	case 0:
		return nil, nil
	case 1:
		return modules[0], nil
	}
	for _, m := range modules {
		if good != nil && drtm.MadeBy(good, m) {
			return m, nil
		}
	}
	return nil, fmt.Errorf("it has %d loader modules, and the good launch was made by none of them: %w", len(modules), ErrNotPossible)
}

const predictionFile = "prediction.log"

// KeepPrediction remembers what the next boot will measure, to be scored after it.
func (h Home) KeepPrediction(f *drtm.Forecast) error {
	b, err := f.Log.AppendTo(nil)
	if err != nil {
		return fmt.Errorf("keep the prediction: %w", err)
	}
	return h.write(predictionFile, b)
}

// ErrNoPrediction says that no prediction was kept.
var ErrNoPrediction = errors.New("no prediction was kept; aem predict --keep keeps one")

// prediction is the log that KeepPrediction kept.
func (h Home) prediction() (*LaunchLog, error) {
	if !h.has(predictionFile) {
		return nil, ErrNoPrediction
	}
	kept, err := ReadLog(filepath.Join(h.dir, predictionFile))
	if err != nil {
		return nil, err
	}
	if kept.Broken != nil {
		return nil, fmt.Errorf("the kept prediction is damaged: %w", kept.Broken)
	}
	return kept, nil
}

// Score compares the kept prediction with a launch, and returns it.
func (h Home) Score(actual *LaunchLog) (*drtm.Score, *LaunchLog, error) {
	kept, err := h.prediction()
	if err != nil {
		return nil, nil, err
	}
	s := drtm.ScoreOf(kept.Log, actual.Log)
	return &s, kept, nil
}
