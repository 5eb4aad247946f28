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
func TestRebaseOntoTheSameFilesChangesNothing(t *testing.T) {
	each(t, func(t *testing.T, p drtm.Platform, v tpm.Version) {
		l := launch(p, v)
		good := written(t, l)
		next, err := drtm.Rebase(good, l.Kernel, l.Initrd, l.CommandLine)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(contents(t, good), contents(t, next)) {
			t.Error("the log is another one")
		}
	})
}

func TestRebaseOntoOtherFilesIsTheirLaunch(t *testing.T) {
	each(t, func(t *testing.T, p drtm.Platform, v tpm.Version) {
		l := launch(p, v)
		good := written(t, l)
		before := contents(t, good)
		l.Kernel[3000] ^= 1
		l.Kernel[0x260] ^= 1
		l.Initrd, l.CommandLine = []byte("a newer initramfs"), "quiet"
		next, err := drtm.Rebase(good, l.Kernel, l.Initrd, l.CommandLine)
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
func TestRebaseMendsALaunchEventThatHoldsTheResult(t *testing.T) {
	l := launch(drtm.TXT, tpm.V20)
	good := written(t, l)
	for i, d := range good.Events[0].Digests {
		good.Events[0].Digests[i].Digest = d.Alg.Sum(make([]byte, d.Alg.Size()), d.Digest)
	}
	next, err := drtm.Rebase(good, l.Kernel, l.Initrd, l.CommandLine)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(values(predict(t, l)), values(next.Replay(true))); diff != "" {
		t.Errorf("the PCRs are others (-launch +rebased)\n%s", diff)
	}
}

// A bank that the launched code could not hash into holds a placeholder, and
// will hold it next time, too.
func TestRebaseKeepsPlaceholders(t *testing.T) {
	l := launch(drtm.SKINIT, tpm.V20)
	good := written(t, l)
	one := append(tpm.Digest{1}, make(tpm.Digest, 19)...)
	const kernel = 2
	good.Events[kernel].Digests[0].Digest = one
	next, err := drtm.Rebase(good, append(l.Kernel, 0), l.Initrd, l.CommandLine)
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

func TestRebaseRefusesToGuess(t *testing.T) {
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
		if next, err := drtm.Rebase(c.good, l.Kernel, c.initrd, l.CommandLine); !errors.Is(err, drtm.ErrUnexplained) {
			t.Errorf("%s: %v, %v", name, next != nil, err)
		}
	}
	without := launch(drtm.SKINIT, tpm.V20)
	without.Initrd = nil
	if _, err := drtm.Rebase(written(t, without), l.Kernel, l.Initrd, l.CommandLine); !errors.Is(err, drtm.ErrUnexplained) {
		t.Errorf("no initramfs before: %v", err)
	}
	if _, err := drtm.Rebase(written(t, l), []byte("no kernel"), l.Initrd, l.CommandLine); !errors.Is(err, drtm.ErrKernel) {
		t.Errorf("no kernel: %v", err)
	}
}
