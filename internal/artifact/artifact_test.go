package artifact_test

import (
	"path"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/eventlog/cel"
	"github.com/antievilmaid/aem/internal/artifact"
	"github.com/antievilmaid/aem/internal/corpus"
	"github.com/antievilmaid/aem/internal/initramfs"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// Every file of the corpus is recognised for what its class says it is.
func TestFilesOfTheCorpusAreRecognised(t *testing.T) {
	for _, file := range corpus.Files(t) {
		class, name := path.Dir(file), path.Base(file)
		b := corpus.Read(t, file)
		want := artifact.EventLog
		switch {
		case class == "acpi" && !strings.Contains(name, "invalid_signature"):
			want = artifact.ACPI
		case class == "txt" && strings.HasPrefix(name, "slrt"), strings.HasPrefix(name, "slrt-entry"):
			want = artifact.SLRT
		case class == "txt" && strings.Contains(name, "heap"):
			want = artifact.Heap
		case class == "txt":
			want = artifact.Registers
		case name == "imaevm-sample-tpm-2.0-pcrs-8-9.txt", name == "keylime-mb-bogus.bin":
			want = artifact.Text
		case class == "ima" && strings.HasSuffix(name, ".txt"):
			want = artifact.IMAText
		case class == "ima", strings.HasPrefix(name, "ima-"):
			want = artifact.IMA
		}
		if got := artifact.Identify(b, true); got != want {
			t.Errorf("%s/%s is taken for: %s; want %s", class, name, got, want)
		}
		d := artifact.Describe(artifact.Identify(b, true), b)
		for _, r := range d.Rows {
			for _, c := range r.Name + r.Value {
				if c < ' ' || c > '~' {
					t.Errorf("%s/%s: %q", class, name, r.Value)
				}
			}
		}
	}
}

func samples(t testing.TB) map[artifact.Kind][]byte {
	t.Helper()
	log, err := eventlog.New(eventlog.Header{Format: eventlog.CryptoAgile, Algs: []tpm.Alg{tpm.SHA256}})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Append(eventlog.Event{PCR: 17, Type: eventlog.Slaunch, Digests: tpm.SumAll([]tpm.Alg{tpm.SHA256}, []byte("x")), Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	b, err := log.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	tlv, err := cel.AppendTLV(nil, cel.FromLog(log))
	if err != nil {
		t.Fatal(err)
	}
	cbor, err := cel.AppendCBOR(nil, cel.FromLog(log))
	if err != nil {
		t.Fatal(err)
	}
	var json strings.Builder
	if err := cel.WriteJSON(&json, cel.FromLog(log)); err != nil {
		t.Fatal(err)
	}
	var a initramfs.Archive
	a.File("init", 0o755, []byte("#!/bin/sh"))
	plain, err := a.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return map[artifact.Kind][]byte{
		artifact.EventLog: b, artifact.CELTLV: tlv, artifact.CELCBOR: cbor, artifact.CELJSON: []byte(json.String()),
		artifact.Initrd: plain, artifact.Kernel: testbed.BzImage("kernel"), artifact.Text: []byte("root=/dev/sda quiet\n"), artifact.Empty: nil,
	}
}

func TestFilesAreRecognisedByTheirStructure(t *testing.T) {
	for want, b := range samples(t) {
		if got := artifact.Identify(b, true); got != want {
			t.Errorf("%s is taken for: %s", want, got)
		}
	}
}

func TestDescriptionsSayWhatMatters(t *testing.T) {
	s := samples(t)
	for kind, want := range map[artifact.Kind]string{
		artifact.Initrd: "1 file", artifact.Kernel: "boot protocol 2.", artifact.Text: "root=/dev/sda quiet",
	} {
		d := artifact.Describe(kind, s[kind])
		text := ""
		for _, r := range d.Rows {
			text += r.Value + " " + r.Name + "\n"
		}
		if !strings.Contains(text, want) || d.Damage != "" {
			t.Errorf("%s: %q, damage %q; want %q", kind, text, d.Damage, want)
		}
	}
	if d := artifact.Describe(artifact.Initrd, s[artifact.Initrd][:60]); d.Damage == "" {
		t.Error("half an initramfs is undamaged")
	}
}

func TestTheHeapsLogIsFound(t *testing.T) {
	const name = "txt/intelsecl-txt_heap_info.bin"
	b := corpus.Read(t, name)
	logs, err := artifact.HeapLogs(b, 0)
	if err != nil || len(logs) != 1 {
		t.Fatalf("%d logs, %v", len(logs), err)
	}
	want := corpus.Banks(t, name, "replay")
	banks := drtm.Replay(logs[0])
	for _, a := range banks.Algs() {
		for _, p := range []tpm.PCR{17, 18} {
			if v := banks.Value(a, p); !v.Equal(want.Value(a, p)) {
				t.Errorf("%s PCR %d replays to %s", a, p, v)
			}
		}
	}
}

func FuzzDescribe(f *testing.F) {
	for _, b := range samples(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		kind := artifact.Identify(b, true)
		for _, r := range artifact.Describe(kind, b).Rows {
			for _, c := range r.Name + r.Value {
				if c < ' ' || c > '~' {
					t.Fatalf("%s: it prints %q", kind, r.Value)
				}
			}
		}
		if kind == artifact.Heap {
			artifact.HeapLogs(b, 0)
		}
	})
}
