package journal_test

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/journal"
)

// The test program plays the other programs that write to a journal.
func TestMain(m *testing.M) {
	if role := os.Getenv("JOURNAL_TEST_ROLE"); role != "" {
		if err := play(role); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// play appends entries to the journal in the folder JOURNAL_TEST_DIR and prints the
// text of each after Append returned.
func play(role string) error {
	name, limit, _ := strings.Cut(role, " ")
	n, err := strconv.Atoi(limit)
	if err != nil {
		return err
	}
	j, err := journal.Open(os.Getenv("JOURNAL_TEST_DIR"))
	if err != nil {
		return err
	}
	if name == "full" { // no file may become longer than n bytes
		signal.Ignore(unix.SIGXFSZ)
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: uint64(n), Max: uint64(n)}); err != nil {
			return err
		}
		if err := j.Append(journal.Entry{Kind: "a"}); !errors.Is(err, unix.EFBIG) {
			return fmt.Errorf("on a full disk Append says %v", err)
		}
		return nil
	}
	for i := range n {
		text := fmt.Sprintf("%s %d", name, i)
		if err := j.Append(journal.Entry{Kind: journal.Sealed, Text: text, Details: map[string]string{"more": strings.Repeat("x", 5000)}}); err != nil {
			return err
		}
		fmt.Println(text)
	}
	return nil
}

func child(t *testing.T, dir, role string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), "JOURNAL_TEST_ROLE="+role, "JOURNAL_TEST_DIR="+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

// Two programs that write at the same time, and begin the journal at the same time,
// lose no entry.
func TestTwoProgramsAtTheSameTime(t *testing.T) {
	dir := t.TempDir()
	const each = 100
	names := []string{"first", "second"}
	var running []*exec.Cmd
	for _, name := range names {
		c := child(t, dir, fmt.Sprintf("%s %d", name, each))
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, c)
	}
	for _, c := range running {
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	j := open(t, dir)
	if err := j.Verify(); err != nil {
		t.Fatal(err)
	}
	next := map[string]int{}
	for _, e := range all(t, j) {
		name, i, _ := strings.Cut(e.Text, " ")
		if i != strconv.Itoa(next[name]) {
			t.Errorf("entry %q comes after %d", e.Text, next[name])
		}
		next[name]++
	}
	if diff := cmp.Diff(map[string]int{"first": each, "second": each}, next); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// A program that is killed in the middle of an Append leaves a journal that verifies,
// with every entry that Append returned for.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	var promised []string
	for run := range 30 {
		c := child(t, dir, fmt.Sprintf("run%d %d", run, 1<<30))
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for more := 1 + rand.IntN(8); more > 0 && lines.Scan(); more-- {
			promised = append(promised, lines.Text())
		}
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // printed before the end
			promised = append(promised, lines.Text())
		}
		if err := c.Wait(); err == nil {
			t.Fatal("the program was not killed")
		}
		if err := open(t, dir).Verify(); err != nil && !errors.As(err, new(*journal.TornError)) {
			t.Fatalf("after %d: %v", run, err)
		}
	}
	if len(promised) < 30 {
		t.Fatalf("only %d entries were appended", len(promised))
	}
	add(t, open(t, dir), journal.Entry{Kind: "a", Text: "last"})
	if err := open(t, dir).Verify(); err != nil {
		t.Error(err)
	}
	there := map[string]int{}
	for _, e := range all(t, open(t, dir)) {
		there[e.Text]++
	}
	for _, text := range promised {
		if there[text] != 1 {
			t.Errorf("entry %q is there %d times", text, there[text])
		}
	}
}

// A disk that is full in the middle of a line leaves the journal as it was.
func TestFullDisk(t *testing.T) {
	dir := with(t, 2)
	before := content(t, dir)
	for _, room := range []int{0, 1, 60} {
		if err := child(t, dir, fmt.Sprintf("full %d", len(before)+room)).Run(); err != nil {
			t.Fatal(err)
		}
		if got := content(t, dir); got != before {
			t.Errorf("with room for %d bytes %d were left", room, len(got)-len(before))
		}
	}
}

// Whoever reads slowly must not make an approval wait, and reads the journal as it
// was when he began.
func TestAReaderDoesNotStopAWriter(t *testing.T) {
	dir := with(t, 3)
	rewrite(t, dir, content(t, dir)+"half a line")
	j := open(t, dir)
	var texts []string
	var last error
	for e, err := range j.Entries() {
		if len(texts) == 1 { // the torn line is replaced under the reader
			add(t, j, journal.Entry{Kind: "a", Text: "new"})
		}
		texts, last = append(texts, e.Text), err
	}
	if diff := cmp.Diff([]string{"entry 1", "entry 2", "entry 3", ""}, texts); diff != "" || !errors.As(last, new(*journal.TornError)) {
		t.Errorf("-want +got\n%s%v", diff, last)
	}
	if got := all(t, j); len(got) != 5 {
		t.Errorf("afterwards there are %d entries", len(got))
	}
}

// A journal that is moved away while a writer waits for it must not swallow the
// entry, whether or not another one is in its place then.
func TestMovedAwayWhileWaiting(t *testing.T) {
	other := content(t, with(t, 1))
	for name, c := range map[string]struct {
		place func(dir string)
		want  []string
	}{
		"none":    {func(string) {}, []string{"new"}},
		"another": {func(dir string) { rewrite(t, dir, other) }, []string{"entry 1", "new"}},
	} {
		dir := with(t, 1)
		f, err := os.Open(file(dir))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- open(t, dir).Append(journal.Entry{Kind: "a", Text: "new"}) }()
		awaitWaiter(t, f)
		if err := os.Rename(file(dir), file(dir)+".old"); err != nil {
			t.Fatal(err)
		}
		c.place(dir)
		if err := unix.Flock(int(f.Fd()), unix.LOCK_UN); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range all(t, open(t, dir)) {
			got = append(got, e.Text)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}

// awaitWaiter returns when somebody waits for the lock of a file. The kernel then has
// a line such as "1: -> FLOCK ADVISORY WRITE 42 fe:00:1234 0 EOF".
func awaitWaiter(t *testing.T, f *os.File) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	for {
		locks, err := os.ReadFile("/proc/locks")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(locks)) {
			if strings.Contains(line, "-> FLOCK") && strings.Contains(line, fmt.Sprintf(":%d ", st.Ino)) {
				return
			}
		}
	}
}
