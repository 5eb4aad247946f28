package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/eventlog/cel"
	"github.com/antievilmaid/aem/internal/corpus"
	"github.com/antievilmaid/aem/internal/initramfs"
	"github.com/antievilmaid/aem/tpm"
)

// aem log FILE on every file of the corpus: it never fails on a file that is not
// malformed on purpose, and the registers are those of an independent parser.
func TestLogOnEveryFileOfTheCorpus(t *testing.T) {
	compared := 0
	for _, name := range corpus.Files(t) {
		path := filepath.Join(corpus.Dir(t), name)
		exit, out, stderr := capture(t, []string{"log", path, "--json"})
		if exit != aem.ExitOK {
			t.Errorf("%s: exit %d, %s", path, exit, stderr)
			continue
		}
		lines := strings.Split(strings.TrimSpace(out), "\n")
		var r struct {
			Replay map[string]map[string]string
			Damage string
		}
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
			t.Errorf("%s: %v: %.200s", path, err, out)
			continue
		}
		for _, want := range corpus.Banks(t, name, "replay") {
			for p, value := range want.Values {
				if value == nil {
					continue
				}
				compared++
				if got := r.Replay[want.Alg.String()][strconv.Itoa(p)]; got != value.String() {
					t.Errorf("%s: %s PCR %d replays to %q; want %s", name, want.Alg, p, got, value)
				}
			}
		}
		if exit, out, stderr = capture(t, []string{"log", path}); exit != aem.ExitOK || out == "" {
			t.Errorf("%s as text: exit %d, %s", path, exit, stderr)
		}
		for i, c := range out {
			if c < ' ' && c != '\n' || c > '~' {
				t.Errorf("%s: it prints %q", path, out[max(0, i-20):i+1])
				break
			}
		}
	}
	if compared < 100 {
		t.Errorf("only %d values were compared", compared)
	}
}

func sampleLog(t *testing.T, texts ...string) string {
	t.Helper()
	algs := []tpm.Alg{tpm.SHA1, tpm.SHA256}
	log, err := eventlog.New(eventlog.Header{Format: eventlog.CryptoAgile, Algs: algs})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		if err := log.Append(eventlog.Event{PCR: 8, Type: eventlog.IPL, Digests: tpm.SumAll(algs, []byte(text)), Data: []byte(text)}); err != nil {
			t.Fatal(err)
		}
	}
	b, err := log.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, b)
}

func file(t *testing.T, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Each format of --format leads back to a log that replays to the same values.
func TestLogFormats(t *testing.T) {
	path := sampleLog(t, "one", "two")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for format, check := range map[string]func(out string) bool{
		"binary": func(out string) bool { return bytes.Equal([]byte(out), raw) },
		"yaml":   func(out string) bool { return strings.Contains(out, "EventNum: 2") && strings.Contains(out, "pcrs:") },
		"cel-tlv": func(out string) bool {
			r, err := cel.ReadTLV([]byte(out))
			return err == nil && len(r) == 3 // the header is a record of its own
		},
		"cel-cbor": func(out string) bool {
			r, err := cel.ReadCBOR([]byte(out))
			return err == nil && len(r) == 3 // the header is a record of its own
		},
		"cel-json": func(out string) bool {
			r, err := cel.ReadJSON([]byte(out))
			return err == nil && len(r) == 3 // the header is a record of its own
		},
	} {
		exit, out, stderr := capture(t, []string{"log", path, "--format", format})
		if exit != aem.ExitOK || !check(out) {
			t.Errorf("%s: exit %d, %s %.200q", format, exit, stderr, out)
		}
		if format == "yaml" {
			continue
		}
		// And is read again.
		var r logReport
		exit, out, stderr = capture(t, []string{"log", file(t, []byte(out)), "--json"})
		if exit != aem.ExitOK || json.Unmarshal([]byte(out), &r) != nil || len(r.Events) != 2 || r.Replay["sha256"][8] == "" {
			t.Errorf("%s, read again: exit %d, %s %.200q", format, exit, stderr, out)
		}
	}
	if exit, _, _ := capture(t, []string{"log", path, "--format", "morse"}); exit != aem.ExitUsage {
		t.Errorf("an unknown format: exit %d", exit)
	}
}

func TestLogDiffNamesTheFirstDifferenceAndTheWords(t *testing.T) {
	a, b := sampleLog(t, "same", "kernel_cmdline: root=/dev/sda quiet"), sampleLog(t, "same", "kernel_cmdline: root=/dev/sda quiet init=/bin/sh", "more")
	exit, out, stderr := capture(t, []string{"log", "diff", a, b})
	if exit != aem.ExitMeasurements || !strings.Contains(out, "The first difference: PCR 8") || !strings.Contains(out, "+ init=/bin/sh") || !strings.Contains(out, "added: more") {
		t.Errorf("exit %d, %s\n%s", exit, stderr, out)
	}
	var d difference
	if _, out, _ = capture(t, []string{"log", "diff", a, b, "--json"}); json.Unmarshal([]byte(out), &d) != nil || len(d.Events) != 2 || d.Events[0].Change != "changed" || d.Events[1].Change != "added" {
		t.Errorf("as JSON: %s", out)
	}
	if exit, out, _ = capture(t, []string{"log", "diff", a, a}); exit != aem.ExitOK || !strings.Contains(out, "No difference") {
		t.Errorf("the same log: exit %d\n%s", exit, out)
	}
	if exit, _, _ := capture(t, []string{"log", "diff", a}); exit != aem.ExitUsage {
		t.Errorf("one log: exit %d", exit)
	}
}

// The launch's parts are named by what they are.
func TestLogDiffNamesWhatWasLaunched(t *testing.T) {
	l := newLaptop(t, tpm.V20)
	before := filepath.Join(t.TempDir(), "before")
	raw, err := os.ReadFile(l.log())
	l.must(err)
	l.must(os.WriteFile(before, raw, 0o600))
	l.launch.Initrd = []byte("evil")
	l.boot()
	exit, out, _ := capture(t, []string{"log", "diff", before, l.log()})
	if exit != aem.ExitMeasurements || !strings.Contains(out, "The first difference: PCR 17, initramfs changed.") {
		t.Errorf("exit %d\n%s", exit, out)
	}
}

func initrd(t *testing.T, files map[string]string) string {
	t.Helper()
	var a initramfs.Archive
	for name, content := range files {
		a.File(name, 0o644, []byte(content))
	}
	b, err := a.Gzip()
	if err != nil {
		t.Fatal(err)
	}
	return file(t, b)
}

func TestExplainNamesFilesInsideAnInitramfs(t *testing.T) {
	a := initrd(t, map[string]string{"init": "good", "etc/passwd": "root", "gone": "x"})
	b := initrd(t, map[string]string{"init": "evil", "etc/passwd": "root", "new": "x"})
	var d difference
	exit, out, stderr := capture(t, []string{"explain", a, b, "--json"})
	if exit != aem.ExitMeasurements || json.Unmarshal([]byte(out), &d) != nil {
		t.Fatalf("exit %d, %s %s", exit, stderr, out)
	}
	var got []string
	for _, f := range d.Files {
		got = append(got, f.Change+" "+f.Path)
	}
	if s := strings.Join(got, ", "); s != "removed gone, changed init, added new" {
		t.Errorf("the changes are: %s", s)
	}
	if exit, out, _ = capture(t, []string{"explain", a, a}); exit != aem.ExitOK || !strings.Contains(out, "No difference") {
		t.Errorf("the same image: exit %d\n%s", exit, out)
	}
	if exit, out, _ = capture(t, []string{"explain", a}); exit != aem.ExitOK || !strings.Contains(out, "This is: initramfs") {
		t.Errorf("one image: exit %d\n%s", exit, out)
	}
}

func TestExplainNamesWordsAndRows(t *testing.T) {
	a, b := file(t, []byte("root=/dev/sda ro quiet\n")), file(t, []byte("root=/dev/sda rw quiet\n"))
	if exit, out, _ := capture(t, []string{"explain", a, b}); exit != aem.ExitMeasurements || out != "- ro\n+ rw\n" {
		t.Errorf("command lines: exit %d\n%s", exit, out)
	}
	if exit, _, stderr := capture(t, []string{"explain", a, sampleLog(t, "x")}); exit != aem.ExitError || !strings.Contains(stderr, "can't be compared") {
		t.Errorf("two kinds: exit %d, %s", exit, stderr)
	}
	if exit, _, stderr := capture(t, []string{"explain", "--home", t.TempDir()}); exit != aem.ExitError || !strings.Contains(stderr, "no log of an approved launch") {
		t.Errorf("nothing kept: exit %d, %s", exit, stderr)
	}
}

// What the predictor scores and explain compares is the launch, by name.
func TestReplayStartsFromALaunchWhereTheLogHasOne(t *testing.T) {
	l := newLaptop(t, tpm.V20)
	read, err := aem.ReadLog(l.log())
	l.must(err)
	want := drtm.Replay(read.Log).Value(tpm.SHA256, 17).String()
	if r := newLogReport(read); r.Replay["sha256"][17] != want || !strings.HasPrefix(r.Source, "/") {
		t.Errorf("PCR 17 is %s; want %s", r.Replay["sha256"][17], want)
	}
}
