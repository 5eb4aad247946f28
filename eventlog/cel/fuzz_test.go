package cel_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/eventlog/cel"
)

// seeds are logs of every format and every kind of content in one encoding.
func seeds(f *testing.F, c codec) {
	f.Helper()
	// One record to a seed, and none that is large: the engine changes small inputs
	// thousands of times more often.
	lists := [][]cel.Record{}
	for _, r := range everyKind() {
		if event, ok := r.Content.(cel.PCClient); !ok || len(event.Data) < 100 {
			lists = append(lists, []cel.Record{r})
		}
	}
	for _, h := range headers() {
		lists = append(lists, cel.FromLog(made(f, h)))
	}
	for _, list := range lists {
		b, err := c.write(list)
		if err != nil {
			f.Fatal(err)
		}
		if back, err := c.read(b); err != nil || len(back) != len(list) {
			f.Fatalf("a seed of %d records is read as %d, %v", len(list), len(back), err)
		}
		f.Add(b)
	}
}

// fuzzReader holds a reader to what it promises of any bytes: no panic, errors
// that say where, and a prefix that is the log itself when written again.
func fuzzReader(f *testing.F, c codec, exact bool) {
	seeds(f, c)
	f.Fuzz(func(t *testing.T, b []byte) {
		records, err := c.read(b)
		var syntax *cel.SyntaxError
		if err != nil && (!errors.As(err, &syntax) || syntax.Offset < 0 || syntax.Offset > len(b) || syntax.Record != len(records)) {
			t.Fatalf("%d records and the error %v", len(records), err)
		}
		again, werr := c.write(records)
		if werr != nil {
			t.Fatalf("what was read can't be written: %v", werr)
		}
		if exact && err == nil && !bytes.Equal(again, b) {
			t.Fatalf("written again it is\n%x, not\n%x", again, b)
		}
		back, rerr := c.read(again)
		if rerr != nil {
			t.Fatalf("what was written can't be read: %v", rerr)
		}
		if d := cmp.Diff(records, back, same); err == nil && c.name != "JSON" && d != "" {
			t.Fatalf("(-read +read again):\n%s", d)
		}
		if third, err := c.write(back); err != nil || !bytes.Equal(third, again) {
			t.Fatalf("written a third time it is\n%s, %v; not\n%s", third, err, again)
		}
		replayAlike(t, records, back)
		for i := range records {
			_ = records[i].Extended()
		}
	})
}

func replayAlike(t *testing.T, a, b []cel.Record) {
	one, err := cel.ToLog(a)
	two, err2 := cel.ToLog(b)
	if (err == nil) != (err2 == nil) {
		t.Fatalf("one becomes a log, the other not: %v, %v", err, err2)
	}
	if err == nil {
		if d := cmp.Diff(one.Replay(true), two.Replay(true)); d != "" {
			t.Fatalf("the replays differ:\n%s", d)
		}
	}
}

func FuzzReadTLV(f *testing.F)  { fuzzReader(f, codecs[0], true) }
func FuzzReadCBOR(f *testing.F) { fuzzReader(f, codecs[1], true) }
func FuzzReadJSON(f *testing.F) { fuzzReader(f, codecs[2], false) }

// Whatever the firmware's log: through each encoding it replays as it did, and no
// event is lost.
func FuzzRoundTrip(f *testing.F) {
	for _, h := range headers() {
		b, err := made(f, h).AppendTo(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		log, _ := eventlog.Parse(b)
		if len(log.Events) == 0 {
			return
		}
		for _, c := range codecs {
			enc, err := c.write(cel.FromLog(log))
			if err != nil {
				if unwritable(log, c) {
					continue
				}
				t.Fatalf("%s: %v", c.name, err)
			}
			records, err := c.read(enc)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			back, err := cel.ToLog(records)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			if len(back.Events) != len(log.Events) {
				t.Fatalf("%s: %d events become %d", c.name, len(log.Events), len(back.Events))
			}
			if d := cmp.Diff(log.Replay(true), back.Replay(true)); d != "" {
				t.Fatalf("%s replays otherwise (-log +records):\n%s", c.name, d)
			}
		}
	})
}

// unwritable reports whether a log has a bank whose digests have no bytes, or one
// whose algorithm has more bits than TLV.
func unwritable(log *eventlog.Log, c codec) bool {
	for _, a := range log.Algs {
		if a.Size == 0 || c.name == "TLV" && a.Alg > 0xff {
			return true
		}
	}
	return false
}
