package ui

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden screens anew")

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func proof() Proof {
	return Proof{
		Secret: []byte("the lighthouse keeper sleeps on Tuesdays"),
		Grade:  "Dynamic launch, AMD SKINIT, log checked in sha1, sha256, sha384, sha512",
		Weak:   "The launch was simulated by a program, not made by a CPU.", Identity: "walnut cabin raven olive",
		Medium: "generation 3, Debian 6.1.0-41", Time: noon, Took: 45 * time.Millisecond,
	}
}

// codeProof is a proof by one-time codes, on a day on which everything else is there, too.
func codeProof() Proof {
	p := proof()
	p.Secret = nil
	p.Code = func(now time.Time) (string, time.Duration, error) {
		return "123456", 30*time.Second - now.Sub(noon), nil
	}
	p.Phone = "AEM, laptop"
	p.Clock = "The machine's clock was set back, or its battery is empty: by it -3h0m0s passed, and the TPM had power for 1h12m5s"
	return p
}

func refusal() Refusal {
	return Refusal{
		Title: "THIS MACHINE DID NOT PROVE ITSELF",
		Cause: "Something that was measured in this boot is not what you approved.",
		Changes: []ChangeView{
			{"initramfs", "4bf5122f344554c53bde2ebb8cd2b7e3d1600ad6", "dbc1b4c900ffe48d575b5da5c638040125f65db0"},
			{"kernel command line", "", "084fed08b978af4d7d196a7446a86b58009e636b"},
		},
		Hint: "If you updated it yourself, approve it from a system you trust. If not, do not type your passphrase.", Code: 4,
	}
}

func pages() map[string]*page {
	p, c, r := proof(), codeProof(), refusal()
	n := Notice{"FIRST BOOT", "First boot: nothing has been sealed on this medium yet.", "Boot on, and seal your secret with aem-setup."}
	q := Question{Title: "PIN", Prompt: "PIN: ", Hint: "The PIN is not your passphrase.", Error: "The PIN is wrong. 3 tries are left.", Secret: true}
	return map[string]*page{"proof": proofPage(&p), "code": proofPage(&c), "refusal": refusalPage(&r), "notice": noticePage(&n), "question": questionPage(&q)}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs from its golden screen (-want +got):\n%s", name, diff)
	}
}

func TestScreensAreAsTheyWereLookedAt(t *testing.T) {
	for name, p := range pages() {
		for size, width := range map[string]int{"80x25": 80, "40x25": 40} {
			s := &sheet{page: p}
			if name == "question" {
				s.typeText("1234")
			}
			lines := s.draw(width, 25, noon)
			for i, l := range lines {
				if cells(l) >= width {
					t.Errorf("%s at %s: line %d is %d cells wide", name, size, i, cells(l))
				}
			}
			if len(lines) != 25 {
				t.Errorf("%s at %s has %d lines", name, size, len(lines))
			}
			golden(t, name+"-"+size, strings.Join(lines, "\n")+"\n")
		}
	}
}

func TestPlainScreens(t *testing.T) {
	var out bytes.Buffer
	s := NewPlain(strings.NewReader("\n\n\n1234\n"), &out)
	ctx := context.Background()
	if a, err := s.ShowProof(ctx, proof()); a != Confirmed || err != nil {
		t.Errorf("the proof was answered with %v, %v", a, err)
	}
	if a, err := s.ShowRefusal(ctx, refusal()); a != PowerOff || err != nil {
		t.Errorf("the refusal was answered with %v, %v", a, err)
	}
	if err := s.ShowNotice(ctx, Notice{Title: "FIRST BOOT", Text: "Nothing is sealed yet."}); err != nil {
		t.Error(err)
	}
	if pin, err := s.Ask(ctx, Question{Title: "PIN", Prompt: "PIN: ", Secret: true}); string(pin) != "1234" || err != nil {
		t.Errorf("the question was answered with %q, %v", pin, err)
	}
	golden(t, "plain", strings.ReplaceAll(out.String(), "\r\n", "\n"))
}

func TestAnswers(t *testing.T) {
	p, r := proof(), refusal()
	for _, c := range []struct {
		page  *page
		typed string
		want  Answer
		done  bool
	}{
		{proofPage(&p), "", Confirmed, true},
		{proofPage(&p), "no", Rejected, true},
		{proofPage(&p), "N", Rejected, true},
		{proofPage(&p), "yes", 0, false},
		{refusalPage(&r), "", PowerOff, true},
		{refusalPage(&r), UnprovenWord, ContinueUnproven, true},
		{refusalPage(&r), "unproven", 0, false},
		{refusalPage(&r), "UNPROVE", 0, false},
		{refusalPage(&r), "U", 0, false},
	} {
		s := &sheet{page: c.page}
		s.typeText(c.typed)
		s.press(keyEnter)
		if s.answer != c.want || s.done != c.done {
			t.Errorf("%s: %q was taken for %v, done %t", c.page.title, c.typed, s.answer, s.done)
		}
		if !s.done && (s.note == "" || len(s.typed) != 0) {
			t.Errorf("%s: after %q nothing is said, or %q is still there", c.page.title, c.typed, s.typed)
		}
	}
}

func TestEscapeNeverDecides(t *testing.T) {
	for name, p := range pages() {
		s := &sheet{page: p}
		s.press(keyEscape)
		if s.done != (name == "question") {
			t.Errorf("%s: after Escape done is %t", name, s.done)
		}
	}
}

func TestTypedSecretsAreHiddenBoundedAndWiped(t *testing.T) {
	q := Question{Title: "PIN", Prompt: "PIN: ", Secret: true, MaxLen: 4}
	s := &sheet{page: questionPage(&q)}
	s.typeText("12345")
	if string(s.typed) != "1234" {
		t.Errorf("%q was kept of five digits where four fit", s.typed)
	}
	if text := strings.Join(s.draw(80, 25, noon), "\n"); strings.Contains(text, "1234") || !strings.Contains(text, "****") {
		t.Error("the PIN can be read on the screen")
	}
	kept := s.typed[:4]
	s.press(keyBackspace)
	if kept[3] != 0 {
		t.Error("a deleted digit stays in memory")
	}
	s.forget()
	if !bytes.Equal(kept, make([]byte, 4)) {
		t.Errorf("after it was forgotten memory holds %q", kept)
	}
}

func TestEndOfInputIsNoAnswer(t *testing.T) {
	for _, in := range []string{"", "n", "UNPROVEN"} {
		s := NewPlain(strings.NewReader(in), io.Discard)
		if a, err := s.ShowProof(context.Background(), proof()); !errors.Is(err, ErrNoAnswer) || a != Rejected {
			t.Errorf("proof, input %q: %v, %v", in, a, err)
		}
		s = NewPlain(strings.NewReader(in), io.Discard)
		if _, err := s.ShowRefusal(context.Background(), refusal()); !errors.Is(err, ErrNoAnswer) {
			t.Errorf("refusal, input %q: %v", in, err)
		}
	}
}

func TestAnAnswerThatIsTooLongIsAskedForAgain(t *testing.T) {
	var out bytes.Buffer
	s := NewPlain(strings.NewReader("12345\n1234\n"), &out)
	pin, err := s.Ask(context.Background(), Question{Title: "PIN", Prompt: "PIN: ", MaxLen: 4})
	if string(pin) != "1234" || err != nil || !strings.Contains(out.String(), "too long") {
		t.Errorf("answered with %q, %v", pin, err)
	}
}

func TestALongSecretScrolls(t *testing.T) {
	p := proof()
	p.Secret = []byte(strings.Repeat("a long sentence. ", 240) + "ENDING")
	s := &sheet{page: proofPage(&p)}
	if text := strings.Join(s.draw(80, 25, noon), "\n"); !strings.Contains(text, "more: Page Down") || strings.Contains(text, "ENDING") {
		t.Error("nothing says that there is more")
	}
	seen := false
	for range 20 {
		s.press(keyPageDown)
		seen = seen || strings.Contains(strings.Join(s.draw(80, 25, noon), "\n"), "ENDING")
	}
	if !seen {
		t.Error("the secret's end can't be reached")
	}
	s.press(keyPageDown)
	if text := strings.Join(s.draw(80, 25, noon), "\n"); !strings.Contains(text, "the proof took") {
		t.Error("scrolling past the end loses the last lines")
	}
}

func TestALiveCodeShowsTheSecondsLeft(t *testing.T) {
	p := codeProof()
	s := &sheet{page: proofPage(&p)}
	for passed, want := range map[time.Duration]string{
		0:                        "123456   valid for 30 seconds",
		7 * time.Second:          "123456   valid for 23 seconds",
		28100 * time.Millisecond: "123456   valid for 2 seconds",
		29900 * time.Millisecond: "123456   valid for 1 second ",
	} {
		if text := strings.Join(s.draw(80, 25, noon.Add(passed)), "\n"); !strings.Contains(text, want) {
			t.Errorf("after %s the screen does not say %q:\n%s", passed, want, text)
		}
	}
}

func TestACodeThatCannotBeMadeIsSaid(t *testing.T) {
	p := codeProof()
	p.Code = func(time.Time) (string, time.Duration, error) {
		return "", 10 * time.Second, errors.New("TPM2_HMAC: the TPM \x1b[2Jis gone")
	}
	s := &sheet{page: proofPage(&p)}
	text := strings.Join(s.draw(80, 25, noon), "\n")
	if !strings.Contains(text, "There is no code now: TPM2_HMAC: the TPM ?[2Jis gone") || strings.Contains(text, "valid for") {
		t.Errorf("the screen says\n%s", text)
	}
	s.press(keyEnter)
	if !s.done || s.answer != Confirmed {
		t.Error("the screen can't be answered")
	}
}

// writes hands over what is written, one text after the other.
type writes chan string

func (w writes) Write(b []byte) (int, error) {
	w <- string(b)
	return len(b), nil
}

// On a terminal that is not drawn on, the next code is printed when its time has come.
func TestAPlainScreenPrintsTheNextCode(t *testing.T) {
	p := codeProof()
	made := 0
	p.Code = func(time.Time) (string, time.Duration, error) {
		if made++; made <= 2 {
			return "111111", time.Millisecond, nil
		}
		return "222222", time.Hour, nil
	}
	in, typed := io.Pipe()
	out := make(writes)
	done := make(chan Answer)
	go func() {
		a, err := NewPlain(in, out).ShowProof(t.Context(), p)
		if err != nil {
			t.Error(err)
		}
		done <- a
	}()
	seen := ""
	for !strings.Contains(seen, "222222") {
		seen += <-out
	}
	if !strings.Contains(seen, "IS THIS THE CODE ON YOUR PHONE?") || !strings.Contains(seen, "111111   valid for 1 second ") {
		t.Errorf("before the next code it printed %q", seen)
	}
	go io.WriteString(typed, "\n")
	if a := <-done; a != Confirmed {
		t.Errorf("answered with %v", a)
	}
	if made != 4 { // printed, waited for, printed, waited for; and no more after the answer
		t.Errorf("the code was asked for %d times", made)
	}
}

// What stands in a secret, a log or a digest stays within its lines.
func FuzzContent(f *testing.F) {
	for _, s := range []string{"", "\x1b[2J", "a\r\nb", "\u202eevil", "e\u0301\u0301\u0301\u0301\u0301", "漢字テスト", "\xff\xfe", "\x00", strings.Repeat("x", 500), "\U0001F468\u200d\U0001F469", "\x9b2J"} {
		f.Add(s, 80, 25)
	}
	f.Add("wide 漢", 1, 1)
	f.Fuzz(func(t *testing.T, text string, width, height int) {
		width, height = max(1, min(width, 300)), max(1, min(height, 100))
		p := Proof{Secret: []byte(text), Grade: text, Weak: text, Identity: text, Medium: text}
		r := Refusal{Title: "TITLE", Cause: text, Detail: text, Hint: text, Changes: []ChangeView{{text, text, text}}}
		q := Question{Title: "TITLE", Prompt: text, Hint: text, Error: text}
		for _, pg := range []*page{proofPage(&p), refusalPage(&r), questionPage(&q)} {
			s := &sheet{page: pg}
			s.typeText(text)
			want := -1
			for i, l := range s.draw(width, height, noon) {
				if want < 0 {
					want = cells(l)
				}
				if strings.ContainsFunc(l, unicode.IsControl) {
					t.Errorf("line %d carries a control character: %q", i, l)
				}
				if got := cells(l); got != want {
					t.Errorf("line %d has %d cells and not %d: %q", i, got, want, l)
				}
			}
		}
	})
}
