package eventlog_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/corpus"
	"github.com/antievilmaid/aem/tpm"
)

func TestTheCorpusIsWrittenAgainByteForByte(t *testing.T) {
	for _, name := range corpus.Files(t, "drtm", "drtm-reconstructed", "drtm-synthetic", "srtm", "ccel", "malformed", "malformed-synthetic") {
		b := corpus.Read(t, name)
		log, err := eventlog.Parse(b)
		var syntax *eventlog.SyntaxError
		if err != nil && !errors.As(err, &syntax) {
			t.Errorf("%s: %v", name, err)
		}
		again, err := log.AppendTo(nil)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%s: written again it differs (%d and %d bytes), %v", name, len(b), len(again), err)
		}
	}
}

func TestDynamicLaunchesReplayAsAnIndependentParserDoes(t *testing.T) {
	compared := 0
	for _, name := range corpus.Files(t, "drtm", "drtm-reconstructed", "drtm-synthetic", "srtm") {
		want := corpus.Banks(t, name, "replay")
		log, err := eventlog.Parse(corpus.Read(t, name))
		if err != nil {
			continue
		}
		banks := log.Replay(true)
		for _, b := range want {
			for p, value := range b.Values {
				if value == nil {
					continue
				}
				compared++
				if got := banks.Value(b.Alg, tpm.PCR(p)); !bytes.Equal(got, value) {
					t.Errorf("%s: %s PCR %d replays to %s; want %s", name, b.Alg, p, got, value)
				}
			}
		}
	}
	if compared == 0 {
		t.Error("no PCR was compared")
	}
}
