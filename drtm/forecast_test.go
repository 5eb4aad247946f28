package drtm_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// next computes the launch of a kernel, an initramfs and a command line, without
// knowing what booted before.
func next(t testing.TB, good *eventlog.Log, kernel, initrd []byte, line string) (*eventlog.Log, error) {
	t.Helper()
	things, err := drtm.Things(nil, &drtm.Boot{Kind: drtm.Linux, Image: kernel, Initrd: initrd, Line: line}, nil)
	if err != nil {
		return nil, err
	}
	f, err := drtm.Next(good, things)
	if err != nil {
		return nil, err
	}
	return f.Log, nil
}

func contents(t testing.TB, log *eventlog.Log) []byte {
	t.Helper()
	b, err := log.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The files that booted give the good log itself: this is how a user learns
// whether a machine's launches can be predicted.
func TestTheSameFilesLaunchTheSame(t *testing.T) {
	each(t, func(t *testing.T, p drtm.Platform, v tpm.Version) {
		l := launch(p, v)
		good := written(t, l)
		next, err := next(t, good, l.Kernel, l.Initrd, l.CommandLine)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(contents(t, good), contents(t, next)) {
			t.Error("the log is another one")
		}
	})
}

func TestOtherFilesLaunchAsPredicted(t *testing.T) {
	each(t, func(t *testing.T, p drtm.Platform, v tpm.Version) {
		l := launch(p, v)
		good := written(t, l)
		before := contents(t, good)
		l.Kernel[3000] ^= 1
		l.Kernel[0x260] ^= 1
		l.Initrd, l.CommandLine = []byte("a newer initramfs"), "quiet"
		next, err := next(t, good, l.Kernel, l.Initrd, l.CommandLine)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(contents(t, written(t, l)), contents(t, next)) {
			t.Error("the log is not the one that the launch of these files has")
		}
		if diff := cmp.Diff(values(predict(t, l)), values(next.Replay(true))); diff != "" {
			t.Errorf("the PCRs are others (-launch +rebased)\n%s", diff)
		}
		if !bytes.Equal(before, contents(t, good)) {
			t.Error("the good log was changed")
		}
	})
}

// The fault of some older modules must not find its way into what is sealed to.
func TestNextMendsALaunchEventThatHoldsTheResult(t *testing.T) {
	l := launch(drtm.TXT, tpm.V20)
	good := written(t, l)
	for i, d := range good.Events[0].Digests {
		good.Events[0].Digests[i].Digest = d.Alg.Sum(make([]byte, d.Alg.Size()), d.Digest)
	}
	next, err := next(t, good, l.Kernel, l.Initrd, l.CommandLine)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(values(predict(t, l)), values(next.Replay(true))); diff != "" {
		t.Errorf("the PCRs are others (-launch +rebased)\n%s", diff)
	}
}

// A bank that the launched code could not hash into holds a placeholder, and
// will hold it next time, too.
func TestNextKeepsPlaceholders(t *testing.T) {
	l := launch(drtm.SKINIT, tpm.V20)
	good := written(t, l)
	one := append(tpm.Digest{1}, make(tpm.Digest, 19)...)
	const kernel = 2
	good.Events[kernel].Digests[0].Digest = one
	next, err := next(t, good, append(l.Kernel, 0), l.Initrd, l.CommandLine)
	if err != nil {
		t.Fatal(err)
	}
	if got := next.Events[kernel].Digests[0].Digest; !got.Equal(one) {
		t.Errorf("the placeholder became %s", got)
	}
	if next.Events[kernel].Digests[1].Digest.Equal(good.Events[kernel].Digests[1].Digest) {
		t.Error("the other bank still has the old kernel")
	}
}

func TestNextRefusesToGuess(t *testing.T) {
	l := launch(drtm.SKINIT, tpm.V20)
	with := func(f func(g *eventlog.Log)) *eventlog.Log {
		g := *written(t, l)
		g.Events = slices.Clone(g.Events)
		f(&g)
		return &g
	}
	for name, c := range map[string]struct {
		good   *eventlog.Log
		initrd []byte
	}{
		"no log":              {nil, l.Initrd},
		"an empty log":        {with(func(g *eventlog.Log) { g.Events = nil }), l.Initrd},
		"an event too many":   {with(func(g *eventlog.Log) { g.Events = append(g.Events, g.Events[7]) }), l.Initrd},
		"a PCR 18 event more": {with(func(g *eventlog.Log) { g.Events = slices.Insert(g.Events, 5, g.Events[5]) }), l.Initrd},
		"no command line":     {with(func(g *eventlog.Log) { g.Events = slices.Delete(g.Events, 6, 7) }), l.Initrd},
		"a foreign event":     {with(func(g *eventlog.Log) { g.Events = append(g.Events, eventlog.Event{PCR: 18, Type: eventlog.IPL}) }), l.Initrd},
		"Xen": {with(func(g *eventlog.Log) {
			g.Events = slices.Delete(g.Events, 8, 9)
			g.Events = slices.Delete(g.Events, 3, 4)
		}), l.Initrd},
		"no initramfs now": {written(t, l), nil},
		"an unknown algorithm": {with(func(g *eventlog.Log) {
			g.Events[2].Digests = []tpm.TaggedDigest{{Alg: tpm.SM3, Digest: make([]byte, 32)}}
		}), l.Initrd},
	} {
		if next, err := next(t, c.good, l.Kernel, c.initrd, l.CommandLine); !errors.Is(err, drtm.ErrUnexplained) {
			t.Errorf("%s: %v, %v", name, next != nil, err)
		}
	}
	without := launch(drtm.SKINIT, tpm.V20)
	without.Initrd = nil
	if _, err := next(t, written(t, without), l.Kernel, l.Initrd, l.CommandLine); !errors.Is(err, drtm.ErrUnexplained) {
		t.Errorf("no initramfs before: %v", err)
	}
	if _, err := next(t, written(t, l), []byte("no kernel"), l.Initrd, l.CommandLine); !errors.Is(err, drtm.ErrKernel) {
		t.Errorf("no kernel: %v", err)
	}
}

// boot is what a launch's files are on the disk.
func boot(k drtm.Kind, p drtm.Platform) *drtm.Boot {
	b := &drtm.Boot{Kind: k, Loader: launch(p, tpm.V20).Loader, Image: bzImage(), Line: "console=vga loglvl=all"}
	if k == drtm.Linux {
		b.Initrd = []byte("an initramfs")
		return b
	}
	b.Image = []byte("a hypervisor")
	b.Modules = []drtm.Module{{Content: bzImage(), Line: "root=/dev/sda quiet"}, {Content: []byte("an initramfs"), Line: ""}, {Content: []byte("a policy"), Line: "flask"}}
	return b
}

// logOf is the log of the launch of a boot's files, after a way through bytes.
func logOf(t testing.TB, b *drtm.Boot, p drtm.Platform, v tpm.Version, algs []tpm.Alg) *eventlog.Log {
	t.Helper()
	target, err := b.Target(p, v, algs)
	if err != nil {
		t.Fatal(err)
	}
	ms, err := target.Measurements()
	if err != nil {
		t.Fatal(err)
	}
	log, err := drtm.BuildLog(p, v, algs, ms)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, contents(t, log))
}

// targets runs a test for every kind of launch that can be made.
func targets(t *testing.T, test func(t *testing.T, k drtm.Kind, p drtm.Platform, v tpm.Version, algs []tpm.Alg)) {
	for _, k := range []drtm.Kind{drtm.Linux, drtm.Xen, drtm.XenEFI, drtm.Tboot} {
		each(t, func(t *testing.T, p drtm.Platform, v tpm.Version) {
			if k == drtm.XenEFI && p == drtm.TXT || k == drtm.Tboot && p == drtm.SKINIT {
				return
			}
			t.Run(k.String(), func(t *testing.T) { test(t, k, p, v, launch(p, v).Algs) })
		})
	}
}

// Each file and each line, changed alone, gives the launch that it then makes, and
// the step that changed is the one that names it.
func TestEveryThingIsRecomputedFromTheGoodLaunch(t *testing.T) {
	changes := map[string]func(b *drtm.Boot){
		"nothing":      func(*drtm.Boot) {},
		"loader":       func(b *drtm.Boot) { b.Loader[8] ^= 1 },
		"image":        func(b *drtm.Boot) { b.Image[len(b.Image)-1] ^= 1 },
		"line":         func(b *drtm.Boot) { b.Line += " debug" },
		"initramfs":    func(b *drtm.Boot) { b.Initrd = append(b.Initrd, 'x') },
		"module":       func(b *drtm.Boot) { b.Modules[0].Content[3000] ^= 1 },
		"another size": func(b *drtm.Boot) { b.Modules[1].Content = append(b.Modules[1].Content, 'x') },
		"module line":  func(b *drtm.Boot) { b.Modules[0].Line += " debug" },
	}
	targets(t, func(t *testing.T, k drtm.Kind, p drtm.Platform, v tpm.Version, algs []tpm.Alg) {
		for name, change := range changes {
			before, after := boot(k, p), boot(k, p)
			if len(before.Modules) == 0 && (name == "module" || name == "another size" || name == "module line") || k != drtm.Linux && name == "initramfs" {
				continue
			}
			change(after)
			things, err := drtm.Things(before, after, nil)
			if err != nil {
				t.Fatal(err)
			}
			f, err := drtm.Next(logOf(t, before, p, v, algs), things)
			if name == "loader" && p == drtm.TXT {
				// Another SINIT module may be signed by another key.
				if !errors.Is(err, drtm.ErrUnexplained) {
					t.Errorf("another SINIT module: %v", err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			want := logOf(t, after, p, v, algs)
			if diff := cmp.Diff(values(drtm.Replay(want)), values(f.PCRs())); diff != "" {
				t.Errorf("%s: (-launch +predicted)\n%s", name, diff)
			}
			if s := drtm.ScoreOf(f.Log, want); s.Right != s.Events || s.Events == 0 || len(s.Wrong) != 0 {
				t.Errorf("%s: %d of %d right, %+v", name, s.Right, s.Events, s.Wrong)
			}
			for _, step := range f.Steps {
				if step.How == drtm.Assumed {
					t.Errorf("%s: event %d (%s) was assumed", name, step.Event, step.Role)
				}
			}
		}
	})
}

// The score counts what came otherwise.
func TestAPredictionThatWasWrongIsScored(t *testing.T) {
	before := boot(drtm.Xen, drtm.SKINIT)
	log := logOf(t, before, drtm.SKINIT, tpm.V20, []tpm.Alg{tpm.SHA256})
	after := boot(drtm.Xen, drtm.SKINIT)
	after.Modules[1].Content = []byte("an initramfs that nobody predicted")
	s := drtm.ScoreOf(log, logOf(t, after, drtm.SKINIT, tpm.V20, []tpm.Alg{tpm.SHA256}))
	// The initramfs, and the multiboot information, which holds its size.
	if s.Events != 7 || s.Right != 5 || len(s.Wrong) != 2 {
		t.Errorf("%d of %d right, %d differences", s.Right, s.Events, len(s.Wrong))
	}
}

// On a machine, the loader's information for Xen holds what no file tells. As long
// as nothing that it is made of changes it stays; otherwise nothing is predicted.
func TestAMachinesMultibootInformation(t *testing.T) {
	before := boot(drtm.Xen, drtm.SKINIT)
	algs := []tpm.Alg{tpm.SHA1, tpm.SHA256}
	good := logOf(t, before, drtm.SKINIT, tpm.V20, algs)
	i := slices.Index(drtm.Roles(good), drtm.RoleBootInfo)
	good.Events[i].Digests = tpm.SumAll(algs, []byte("with a memory map"))
	for name, c := range map[string]struct {
		change  func(b *drtm.Boot)
		refused bool
	}{
		"other content of the same size": {func(b *drtm.Boot) { b.Modules[0].Content[3000] ^= 1 }, false},
		"another size":                   {func(b *drtm.Boot) { b.Modules[0].Content = append(b.Modules[0].Content, 1) }, true},
		"another line":                   {func(b *drtm.Boot) { b.Line += " x" }, true},
		"another module's line":          {func(b *drtm.Boot) { b.Modules[0].Line += " x" }, true},
		"a module less":                  {func(b *drtm.Boot) { b.Modules = b.Modules[:2] }, true},
	} {
		after := boot(drtm.Xen, drtm.SKINIT)
		c.change(after)
		things, err := drtm.Things(before, after, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = drtm.Next(good, things)
		if errors.Is(err, drtm.ErrUnexplained) != c.refused {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The good launch's digests tell in which form a file is hashed.
func TestFormsAreLearned(t *testing.T) {
	algs := []tpm.Alg{tpm.SHA256}
	before, after := boot(drtm.Linux, drtm.SKINIT), boot(drtm.Linux, drtm.SKINIT)
	after.Image[3500] ^= 1
	good := logOf(t, before, drtm.SKINIT, tpm.V20, algs)
	kernel := slices.Index(drtm.Roles(good), drtm.RoleKernel)
	const sectors = 4 * 512 // three sectors of setup and the boot sector
	good.Events[kernel].Digests = tpm.SumAll(algs, before.Image[sectors:])
	things, err := drtm.Things(before, after, nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := drtm.Next(good, things)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := tpm.Find(f.Log.Events[kernel].Digests, tpm.SHA256), tpm.SHA256.Sum(after.Image[sectors:]); !got.Equal(want) {
		t.Errorf("the kernel's digest is %s; want %s", got, want)
	}
	if s := f.Steps[kernel]; s.Form != "protected-mode part" || s.How != drtm.Recomputed || !s.Changed {
		t.Errorf("%+v", s)
	}
	// In a form that nobody knows, nothing is predicted.
	good.Events[kernel].Digests = tpm.SumAll(algs, []byte("some other form"))
	if _, err := drtm.Next(good, things); !errors.Is(err, drtm.ErrUnexplained) {
		t.Errorf("an unknown form: %v", err)
	}
}

func TestTargetsThatNobodyKnows(t *testing.T) {
	for name, b := range map[string]*drtm.Boot{"xen.efi by TXT": boot(drtm.XenEFI, drtm.TXT), "another kind": {Kind: 9}} {
		target, err := b.Target(drtm.TXT, tpm.V20, []tpm.Alg{tpm.SHA256})
		if err == nil {
			_, err = target.Measurements()
		}
		if !errors.Is(err, drtm.ErrTarget) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := boot(drtm.Tboot, drtm.TXT).Target(drtm.SKINIT, tpm.V20, nil); !errors.Is(err, drtm.ErrTarget) {
		t.Errorf("tboot by SKINIT: %v", err)
	}
}

// An update replaces a file in its place, and what booted is gone. What an earlier
// launch taught is enough then.
func TestWhatWasLearnedServesWhereTheFilesAreGone(t *testing.T) {
	targets(t, func(t *testing.T, k drtm.Kind, p drtm.Platform, v tpm.Version, algs []tpm.Alg) {
		old := boot(k, p)
		good := logOf(t, old, p, v, algs)
		same, err := drtm.Things(old, old, nil)
		if err != nil {
			t.Fatal(err)
		}
		f, err := drtm.Next(good, same)
		if err != nil {
			t.Fatal(err)
		}
		forms := f.Forms()
		after := boot(k, p)
		after.Image[len(after.Image)-1] ^= 1
		if k == drtm.Linux {
			after.Initrd = []byte("newer")
		} else {
			after.Modules[1].Content = []byte("newer       ") // of the same size
		}
		// All that is on the disk now is the new files.
		things, err := drtm.Things(after, after, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := drtm.Next(good, things); !errors.Is(err, drtm.ErrUnexplained) {
			t.Errorf("with nothing learned: %v", err)
		}
		drtm.Learn(things, forms)
		f, err = drtm.Next(good, things)
		if err != nil {
			t.Fatal(err)
		}
		want := logOf(t, after, p, v, algs)
		if diff := cmp.Diff(values(drtm.Replay(want)), values(f.PCRs())); diff != "" {
			t.Errorf("(-launch +predicted)\n%s", diff)
		}
	})
}
