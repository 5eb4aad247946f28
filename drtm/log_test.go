package drtm_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

func TestEachPlatformHasItsLogFormat(t *testing.T) {
	for _, c := range []struct {
		p      drtm.Platform
		v      tpm.Version
		format eventlog.Format
		vendor int
	}{
		{drtm.TXT, tpm.V20, eventlog.CryptoAgile, 0},
		{drtm.TXT, tpm.V12, eventlog.TXT12Container, 0},
		{drtm.SKINIT, tpm.V20, eventlog.CryptoAgile, 20},
		{drtm.SKINIT, tpm.V12, eventlog.SKL12, 48},
	} {
		l := launch(c.p, c.v)
		log := written(t, l)
		if log.Format != c.format || len(log.VendorInfo) != c.vendor {
			t.Errorf("%s on a %s: %s with %d bytes of vendor information", c.p, c.v, log.Format, len(log.VendorInfo))
		}
		var want []eventlog.Event
		for _, m := range measurements(t, l) {
			want = append(want, m.Event())
		}
		for i, e := range log.Events {
			e.Offset = 0
			if len(e.Data) == 0 {
				e.Data = nil
			}
			if diff := cmp.Diff(want[i], e); diff != "" {
				t.Errorf("%s on a %s, event %d (-measured +logged)\n%s", c.p, c.v, i, diff)
			}
		}
		if len(log.Events) != len(want) {
			t.Errorf("%s on a %s: %d events; want %d", c.p, c.v, len(log.Events), len(want))
		}
	}
}

func TestNoLogForWhatIsNoLaunch(t *testing.T) {
	for _, c := range []struct {
		p drtm.Platform
		v tpm.Version
	}{{0, tpm.V20}, {drtm.TXT, 0}} {
		if _, err := drtm.BuildLog(c.p, c.v, []tpm.Alg{tpm.SHA1}, nil); err == nil {
			t.Errorf("a log was made for a launch by %s on a %s", c.p, c.v)
		}
	}
	if _, err := drtm.BuildLog(drtm.TXT, tpm.V12, []tpm.Alg{tpm.SHA256}, nil); err == nil {
		t.Error("a TPM 1.2's log was made with a SHA-256 bank")
	}
}
