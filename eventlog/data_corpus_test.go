package eventlog_test

import (
	"bytes"
	"testing"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/corpus"
)

// What is decoded leads back to the same bytes, and most of what real machines
// wrote is decoded.
func TestBodiesOfTheCorpusDecodeAndEncodeAgain(t *testing.T) {
	all, raw := map[eventlog.Type]int{}, map[eventlog.Type]int{}
	for _, name := range corpus.Files(t, "drtm", "drtm-reconstructed", "drtm-synthetic", "srtm", "ccel", "malformed", "malformed-synthetic") {
		log, _ := eventlog.Parse(corpus.Read(t, name))
		for i := range log.Events {
			e := &log.Events[i]
			d := e.Decode()
			if !bytes.Equal(d.AppendTo(nil), e.Data) {
				t.Errorf("%s: event %d (%s) encodes to other bytes", name, i, e.Type)
			}
			for _, r := range d.String() {
				if r < ' ' || r > '~' {
					t.Errorf("%s: event %d (%s) prints %q", name, i, e.Type, d.String())
					break
				}
			}
			all[e.Type]++
			if _, ok := d.(eventlog.Raw); ok {
				raw[e.Type]++
			}
		}
	}
	for typ, n := range all {
		t.Logf("%s: %d, of which %d raw", typ, n, raw[typ])
	}
}
