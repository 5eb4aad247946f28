package tpm_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/tpm"
)

var threeBanks = []tpm.Alg{tpm.SHA1, tpm.SHA256, tpm.SHA384}

func TestOnePassHashesAsEachBankAlone(t *testing.T) {
	for _, n := range []int{0, 1, 256<<10 - 1, 256 << 10, 256<<10 + 1, 1 << 20, 1<<20 + 7} {
		b := bytes.Repeat([]byte("an initramfs "), n/13+1)[:n]
		for name, r := range map[string]io.Reader{"whole": bytes.NewReader(b), "in halves": iotest.HalfReader(bytes.NewReader(b))} {
			got, err := tpm.SumReader(threeBanks, r)
			if err != nil {
				t.Fatal(err)
			}
			var alone []tpm.TaggedDigest
			for _, a := range threeBanks {
				alone = append(alone, tpm.TaggedDigest{Alg: a, Digest: a.Sum(b)})
			}
			if diff := cmp.Diff(alone, tpm.SumAll(threeBanks, b[:n/2], b[n/2:])); diff != "" {
				t.Errorf("%d bytes from memory (-each alone +together)\n%s", n, diff)
			}
			if diff := cmp.Diff(alone, got); diff != "" {
				t.Errorf("%d bytes, %s (-each alone +one pass)\n%s", n, name, diff)
			}
		}
	}
}

func TestHashingEndsAtAnError(t *testing.T) {
	before := runtime.NumGoroutine()
	broken := errors.New("the disk is broken")
	r := io.MultiReader(bytes.NewReader(make([]byte, 300<<10)), iotest.ErrReader(broken))
	if got, err := tpm.SumReader(threeBanks, r); !errors.Is(err, broken) || got != nil {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := tpm.SumReader([]tpm.Alg{tpm.SM3}, bytes.NewReader(nil)); err == nil {
		t.Error("an algorithm that can't be computed is taken")
	}
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d goroutines were left behind", runtime.NumGoroutine()-before)
}

// Each bank alone, and all of them in one pass, over 64 MiB.
func BenchmarkSumReader(b *testing.B) {
	content := make([]byte, 64<<20)
	for _, algs := range [][]tpm.Alg{{tpm.SHA1}, {tpm.SHA256}, {tpm.SHA384}, threeBanks} {
		b.Run(fmt.Sprint(algs), func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				if _, err := tpm.SumReader(algs, bytes.NewReader(content)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
