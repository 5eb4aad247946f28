package qemu_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// BenchmarkCommand compares swtpm alone with swtpm behind the server: two processes'
// hops more for each command. The figures hold side by side, in one run.
func BenchmarkCommand(b *testing.B) {
	testbed.Need(b, "swtpm")
	extend := append([]byte("\x80\x02\x00\x00\x00\x41\x00\x00\x01\x82\x00\x00\x00\x10\x00\x00\x00\x09\x40\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x0b"), make([]byte, 32)...)
	for _, c := range []struct {
		name    string
		command []byte
	}{{"read clock", readClock}, {"extend", extend}} {
		t, _ := testbed.NewTPM(b, tpm.V20)
		if r, err := t.Send(c.command); err != nil || !bytes.HasPrefix(r[6:], make([]byte, 4)) {
			b.Fatalf("%s: %x, %v", c.name, r, err)
		}
		b.Run(c.name+", swtpm alone", func(b *testing.B) {
			for b.Loop() {
				if _, err := t.Send(c.command); err != nil {
					b.Fatal(err)
				}
			}
		})
		f := newFake(tpm.V20)
		f.execute = func(_ context.Context, _ tpm.Locality, command []byte) ([]byte, error) { return t.Send(command) }
		q := serve(b, f).start(b)
		b.Run(c.name+", through the server", func(b *testing.B) {
			for b.Loop() {
				q.data.Write(c.command)
				if _, err := swtpm.ReadPacket(q.data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
