package domctl

import (
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// answer is what Xen 4.17 gives for a domain that is paused after it ran for 1 ms.
func answer(t *testing.T) []byte {
	t.Helper()
	b, err := hex.DecodeString("05000000" + "15000000" + "0300000000000000" + // command, version, domain
		"03000000" + "08000000" + "0060000000000000" + "0064000000000000" + // domain, flags, pages
		"0000000000000000" + "0000000000000000" + "0000000000000000" + "45230100000000ff" + // the last: shared info
		"40420f0000000000" + "01000000" + "00000000" + "00000000" + // CPU time, vCPUs, label
		"000102030405060708090a0b0c0d0e0f" + "00000000" + "2400000000000000")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, make([]byte, requestSize-len(b))...)
}

func TestAnswerIsRead(t *testing.T) {
	got, err := parse(answer(t), 3)
	want := Domain{Handle: [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, Paused: true, CPUTime: time.Millisecond}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
}

// Xen answers about the next domain where there is none of that number.
func TestAnswerAboutAnotherDomainIsRefused(t *testing.T) {
	if d, err := parse(answer(t), 2); !errors.Is(err, unix.ESRCH) {
		t.Errorf("%v, %v", d, err)
	}
}

func TestOnlyADomainThatNeverRanHasNotRun(t *testing.T) {
	for _, c := range []struct {
		d    Domain
		want bool
	}{
		{Domain{Paused: true}, false},
		{Domain{Paused: true, CPUTime: 1}, true},
		{Domain{Paused: false}, true},
	} {
		if got := c.d.Ran(); got != c.want {
			t.Errorf("%+v ran: %v", c.d, got)
		}
	}
}
