package drtm_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/corpus"
	"github.com/antievilmaid/aem/tpm"
)

// bzImage is a small file with a whole setup header, as protocol 2.15 has it.
func bzImage() []byte {
	b := make([]byte, 4096)
	b[0x1f1] = 3
	copy(b[0x1fe:], []byte{0x55, 0xaa, 0xeb, 0x6a})
	copy(b[0x202:], "HdrS\x0f\x02")
	b[0x211] = 1                                          // LOADED_HIGH
	binary.LittleEndian.PutUint32(b[0x260:], 0x0123_4000) // init_size
	copy(b[2048:], "protected-mode code")
	return b
}

// slb is a Secure Loader Block of which 64 of 100 bytes count.
func slb() []byte {
	b := make([]byte, 100)
	copy(b, []byte{16, 0, 64, 0})
	copy(b[16:], "loader code")
	copy(b[64:], "unmeasured data")
	return b
}

// launch is a sample for a platform and a family.
func launch(p drtm.Platform, v tpm.Version) drtm.LinuxLaunch {
	l := drtm.LinuxLaunch{
		Platform: p, Version: v, Algs: []tpm.Alg{tpm.SHA1, tpm.SHA256}, Loader: slb(),
		Kernel: bzImage(), Initrd: []byte("an initramfs"), CommandLine: "root=/dev/xvda quiet",
	}
	if v == tpm.V12 {
		l.Algs = []tpm.Alg{tpm.SHA1}
	}
	if p == drtm.TXT {
		l.Loader = []byte("a SINIT module")
	}
	return l
}

func measurements(t testing.TB, l drtm.LinuxLaunch) []drtm.Measurement {
	t.Helper()
	ms, err := l.Measurements()
	if err != nil {
		t.Fatal(err)
	}
	return ms
}

func predict(t testing.TB, l drtm.LinuxLaunch) tpm.Banks {
	t.Helper()
	b, err := drtm.Predict(l.Algs, measurements(t, l))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// written is the launch's log, after a way through bytes.
func written(t testing.TB, l drtm.LinuxLaunch) *eventlog.Log {
	t.Helper()
	log, err := drtm.BuildLog(l.Platform, l.Version, l.Algs, measurements(t, l))
	if err != nil {
		t.Fatal(err)
	}
	b, err := log.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, b)
}

func parse(t testing.TB, b []byte) *eventlog.Log {
	t.Helper()
	log, err := eventlog.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// each runs a test for both platforms and both families.
func each(t *testing.T, test func(*testing.T, drtm.Platform, tpm.Version)) {
	for _, p := range []drtm.Platform{drtm.TXT, drtm.SKINIT} {
		for _, v := range []tpm.Version{tpm.V12, tpm.V20} {
			t.Run(fmt.Sprintf("%s %s", p.Name(), v), func(t *testing.T) { test(t, p, v) })
		}
	}
}

// corpusLog reads a log and the PCRs that are known to belong to it.
func corpusLog(t testing.TB, name string) (*eventlog.Log, tpm.Banks) {
	t.Helper()
	actual := corpus.Banks(t, name, "pcrs")
	if actual == nil {
		actual = corpus.Banks(t, name, "replay")
	}
	if actual == nil {
		t.Fatalf("%s: no PCR values are known", name)
	}
	return parse(t, corpus.Read(t, name)), actual
}

// values lists the launch's PCRs, for comparing.
func values(bs tpm.Banks) []string {
	var l []string
	for i := range bs {
		for p := tpm.PCR(17); p.Dynamic(); p++ {
			l = append(l, fmt.Sprintf("%s %d %s", bs[i].Alg, p, bs[i].Values[p]))
		}
	}
	return l
}
