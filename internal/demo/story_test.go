package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// The whole path on Debian's kernel: each chapter shows the screen, and ends with
// the exit code, that the story promises.
func TestStory(t *testing.T) {
	tell(t, alone)
}

// The same of a launch that goes on through stage 1 and Xen to dom0.
func TestChainStory(t *testing.T) { tell(t, chained) }

func tell(t *testing.T, told tale) {
	testbed.Need(t, "qemu-system-x86_64", "swtpm", "mke2fs", "debugfs")
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			dir, err := os.MkdirTemp("", "aem-story-") // a socket's path must be short
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			m, err := newMachine(told, v, dir, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			for i, c := range m.story {
				if err := m.tell(t.Context(), c); err != nil {
					t.Fatalf("chapter %d, %s: %v", i+1, c.title, err)
				}
			}
			places, err := leaks(m)
			if err != nil || m.logs.Len() == 0 {
				t.Errorf("%d bytes of logs were looked through, %v", m.logs.Len(), err)
			}
			for _, place := range places {
				t.Errorf("the secret stands in %s", place)
			}
		})
	}
}

// leaks looks for the owner's sentence in all that the story wrote and printed,
// but for the screen, where it belongs.
func leaks(m *machine) (places []string, err error) {
	if bytes.Contains(m.logs.Bytes(), []byte(sentence)) {
		places = append(places, "what drtmsim or the guests printed")
	}
	err = filepath.WalkDir(m.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(sentence)) {
			places = append(places, filepath.Base(path))
		}
		return err
	})
	return places, err
}

func TestLeaksAreFound(t *testing.T) {
	m := &machine{dir: t.TempDir()}
	m.logs.WriteString("GUEST " + sentence)
	if err := os.WriteFile(filepath.Join(m.dir, "disk"), []byte("..."+sentence), 0o600); err != nil {
		t.Fatal(err)
	}
	if places, err := leaks(m); err != nil || len(places) != 2 {
		t.Errorf("found in %q, %v", places, err)
	}
}

func TestChangeByteChangesOne(t *testing.T) {
	dir := t.TempDir()
	source, target := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := os.WriteFile(source, []byte("made here"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := changeByte(source, target, "made", "maid"); err == nil {
		t.Error("two bytes were changed")
	}
	if err := changeByte(source, target, "absent", "absenx"); err == nil {
		t.Error("what is not there was changed")
	}
	if err := changeByte(source, target, "made", "mads"); err != nil {
		t.Error(err)
	}
}
