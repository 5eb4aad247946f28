package eventlog_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// corpus is a folder of real logs beside the project, which not everybody has.
const corpus = "../../shared/corpus"

func corpusFiles(t *testing.T, folders ...string) []string {
	t.Helper()
	if _, err := os.Stat(corpus); err != nil {
		t.Skip("the corpus of real logs is not beside the project")
	}
	var files []string
	for _, f := range folders {
		entries, err := os.ReadDir(filepath.Join(corpus, f))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			files = append(files, filepath.Join(f, e.Name()))
		}
	}
	return files
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(corpus, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTheCorpusIsWrittenAgainByteForByte(t *testing.T) {
	for _, name := range corpusFiles(t, "drtm", "drtm-reconstructed", "drtm-synthetic", "srtm", "ccel", "malformed", "malformed-synthetic") {
		b := read(t, name)
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

// wanted reads a list of "bank PCR value".
func wanted(t *testing.T, name string) map[[2]string]string {
	t.Helper()
	f, err := os.Open(filepath.Join(corpus, "expect", name))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := map[[2]string]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		if w := strings.Fields(s.Text()); len(w) == 3 {
			m[[2]string{w[0], w[1]}] = strings.ToLower(w[2])
		}
	}
	return m
}

func TestDynamicLaunchesReplayAsAnIndependentParserDoes(t *testing.T) {
	compared := 0
	for _, name := range corpusFiles(t, "drtm", "drtm-reconstructed", "drtm-synthetic", "srtm") {
		want := wanted(t, strings.ReplaceAll(name, "/", "_")+".replay")
		log, err := eventlog.Parse(read(t, name))
		if want == nil || err != nil {
			continue
		}
		banks := log.Replay(true)
		for key, value := range want {
			alg, err := tpm.ParseAlg(key[0])
			pcr, perr := strconv.Atoi(key[1])
			if err != nil || perr != nil || !alg.Available() {
				continue
			}
			compared++
			if got := banks.Value(alg, tpm.PCR(pcr)); hex.EncodeToString(got) != value {
				t.Errorf("%s: %s PCR %d replays to %s; want %s", name, alg, pcr, got, value)
			}
		}
	}
	if compared == 0 {
		t.Error("no PCR was compared")
	}
}
