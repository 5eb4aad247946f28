package emulator_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm/emulator"
)

var extendPCR16 = packet(0x8002, 0x182, append([]byte{0, 0, 0, 16, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x0b}, make([]byte, 32)...)...)

// BenchmarkExtend compares a command through Execute with one that goes straight to swtpm.
func BenchmarkExtend(b *testing.B) {
	b.Run("emulator", func(b *testing.B) {
		h := newHost(b)
		e := run(b, h, create(b, h, tpm.V20), emulator.Inheritance{})
		for b.Loop() {
			if _, _, err := e.Execute(context.Background(), 0, extendPCR16); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("swtpm", func(b *testing.B) {
		t, _ := testbed.NewTPM(b, tpm.V20)
		for b.Loop() {
			if _, err := t.Send(extendPCR16); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkStart is from nothing to a vTPM that serves its guest.
func BenchmarkStart(b *testing.B) {
	for _, v := range both {
		b.Run(v.String(), func(b *testing.B) {
			h := newHost(b)
			cfg := create(b, h, v)
			for b.Loop() {
				run(b, h, cfg, inherited(v)).Kill()
			}
		})
	}
	b.Run("plain swtpm", func(b *testing.B) {
		testbed.Need(b, "swtpm")
		dir := b.TempDir()
		for b.Loop() {
			e, err := testbed.StartEmulator(dir, tpm.V20)
			if err != nil {
				b.Fatal(err)
			}
			c, err := e.Connect()
			if err == nil {
				err = testbed.PowerOn(c, tpm.V20)
			}
			if err != nil {
				b.Fatal(err)
			}
			c.Close()
			e.Stop()
		}
	})
}

// BenchmarkMemory is what sixty running vTPMs take, shared pages counted once.
func BenchmarkMemory(b *testing.B) {
	const n = 60
	h := newHost(b)
	cfg := create(b, h, tpm.V20)
	for b.Loop() {
		var kib int
		var all []*emulator.Emulator
		for range n {
			all = append(all, run(b, h, cfg, inherited(tpm.V20)))
		}
		for _, e := range all {
			rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", e.PID()))
			if err != nil {
				b.Fatal(err)
			}
			_, rest, _ := bytes.Cut(rollup, []byte("\nPss:"))
			pss, err := strconv.Atoi(strings.Fields(string(rest))[0])
			if err != nil {
				b.Fatal(err)
			}
			kib += pss
		}
		for _, e := range all {
			e.Kill()
		}
		b.ReportMetric(float64(kib)/n, "KiB/vTPM")
	}
}
