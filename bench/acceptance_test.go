package bench_test

import (
	"bytes"
	"crypto"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	pb "github.com/google/go-eventlog/proto/state"

	"github.com/google/go-eventlog/extract"
	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tpmeventlog"

	"github.com/antievilmaid/aem/bench"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

var libraries = []bench.Reader{bench.GoEventlog{}, bench.GoAttestation{}}

// generated is one of the generated logs.
func generated(t *testing.T, name string) *bench.Input {
	t.Helper()
	all, err := bench.Generated()
	if err != nil {
		t.Fatal(err)
	}
	in := all[name]
	if in == nil {
		t.Fatalf("no log %q is generated", name)
	}
	return in
}

// accepts asks a reader whether the values are those to which a log leads.
func accepts(t *testing.T, r bench.Reader, in *bench.Input, values ...bench.Value) bool {
	t.Helper()
	reading := r.Read(in)
	if reading.Err != nil {
		t.Fatalf("%s refuses the log: %v", r.Name(), reading.Err)
	}
	ok, err := reading.Accepts(values...)
	if err != nil {
		t.Fatalf("%s gives no verdict: %v", r.Name(), err)
	}
	return ok
}

// theyAcceptWeRefuse asserts what makes a comparison worth it.
func theyAcceptWeRefuse(t *testing.T, in *bench.Input, values ...bench.Value) {
	t.Helper()
	for _, r := range libraries {
		if !accepts(t, r, in, values...) {
			t.Errorf("%s refuses it: it got better, and the documents should say so", r.Name())
		}
	}
	if accepts(t, bench.Ours{}, in, values...) {
		t.Error("we accept it")
	}
}

func TestAPCRWithoutEventsVerifiesWithAnyValueElsewhere(t *testing.T) {
	in := generated(t, "100 events in two banks")
	for _, launched := range []bool{false, true} {
		in.Launched = launched
		theyAcceptWeRefuse(t, in, bench.Value{
			Register: bench.Register{PCR: tpm.PCRCode, Alg: tpm.SHA256},
			Digest:   bytes.Repeat([]byte{0x42}, 32),
		})
	}
}

// replayed is the right value.
func replayed(t *testing.T, in *bench.Input, p tpm.PCR, alg tpm.Alg) bench.Value {
	t.Helper()
	log, err := eventlog.Parse(in.Log)
	if err != nil {
		t.Fatal(err)
	}
	return bench.Value{Register: bench.Register{PCR: p, Alg: alg}, Digest: log.Replay(in.Launched).Value(alg, p)}
}

func TestAWrongBankBesideARightOneVerifiesElsewhere(t *testing.T) {
	in := generated(t, "100 events in two banks")
	right := replayed(t, in, 4, tpm.SHA1)
	wrong := replayed(t, in, 4, tpm.SHA256)
	wrong.Digest = slices.Clone(wrong.Digest)
	wrong.Digest[31] ^= 1
	theyAcceptWeRefuse(t, in, right, wrong)
	for _, r := range append(libraries, bench.Ours{}) {
		if accepts(t, r, in, wrong) {
			t.Errorf("%s accepts the wrong value also when it is asked for it alone", r.Name())
		}
	}
}

func TestABankThatTheLogLacksVerifiesElsewhere(t *testing.T) {
	in := generated(t, "an algorithm of more than 8 bits")
	// The values follow from the digests in the bank 0x010b.
	theyAcceptWeRefuse(t, in, replayed(t, generated(t, "one event in PCR 4"), 4, tpm.SHA256))
}

func TestZerosBehindALogAreEventsElsewhere(t *testing.T) {
	in := generated(t, "zeros behind, as many as some records")
	pcr0 := replayed(t, in, 0, tpm.SHA256)
	for _, r := range libraries {
		if n := r.Read(in).Events; n != 1+16 {
			t.Errorf("%s finds %d events; it used to find 16 that nobody logged", r.Name(), n)
		}
		if accepts(t, r, in, pcr0) {
			t.Errorf("%s verifies PCR 0; the events that nobody logged used to prevent that", r.Name())
		}
	}
	if n := (bench.Ours{}).Read(in).Events; n != 1 {
		t.Errorf("we find %d events, want 1", n)
	}
	if !accepts(t, bench.Ours{}, in, pcr0) {
		t.Error("we refuse PCR 0, which nothing was extended into")
	}
}

// inChild is set in the process that TestALaunchEndsTheProcessElsewhere starts.
const inChild = "AEM_BENCH_CHILD"

func TestALaunchEndsTheProcessElsewhere(t *testing.T) {
	in := generated(t, "a launch")
	if os.Getenv(inChild) != "" {
		debug.SetMaxStack(1 << 20) // a gigabyte otherwise
		right := replayed(t, in, tpm.PCRCode, tpm.SHA256)
		bank := register.PCRBank{TCGHashAlgo: pb.HashAlgo_SHA256, PCRs: []register.PCR{
			{Index: int(right.PCR), Digest: right.Digest, DigestAlg: crypto.SHA256},
		}}
		_, err := tpmeventlog.ReplayAndExtract(in.Log, bank, extract.Opts{})
		t.Logf("the process lives: %v", err)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), inChild+"=1")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "stack overflow") {
		t.Errorf("go-eventlog survives a launch's log (%v): it got better, and the documents should say so", err)
	}
	if !accepts(t, bench.Ours{}, in, replayed(t, in, tpm.PCRCode, tpm.SHA256)) {
		t.Error("we refuse it")
	}
}
