package main

import (
	"bytes"
	"encoding/base32"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/pty"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/internal/totp"
	"github.com/antievilmaid/aem/tpm"
)

// question stands below a key that was shown.
const question = "Code on the phone (Enter alone: give up): "

// started is a command that runs and asks.
type started struct {
	t    *testing.T
	done chan aem.Exit
	out  *os.File
}

// start runs aem-setup with the given standard input and error output.
func (l *laptop) start(in, messages *os.File, args ...string) *started {
	l.t.Helper()
	out, err := os.CreateTemp(l.t.TempDir(), "out")
	if err != nil {
		l.t.Fatal(err)
	}
	s := &started{l.t, make(chan aem.Exit, 1), out}
	i, o, e := os.Stdin, os.Stdout, os.Stderr
	os.Stdin, os.Stdout, os.Stderr = in, out, messages
	args = append(args, "--tpm", "swtpm:"+l.socket, "--log", filepath.Join(l.dir, "log"), "--home", filepath.Join(l.dir, "home"))
	go func() {
		exit := cli.Run(l.t.Context(), newCommand(), args)
		os.Stdin, os.Stdout, os.Stderr = i, o, e
		s.done <- exit
	}()
	return s
}

// want waits for the end and demands exit code and printed text.
func (s *started) want(exit aem.Exit, text string) {
	s.t.Helper()
	select {
	case got := <-s.done:
		b, err := os.ReadFile(s.out.Name())
		if err != nil || got != exit || !strings.Contains(string(b), text) {
			s.t.Errorf("exit %d, %q, %v; want %d and %q", got, b, err, exit, text)
		}
	case <-time.After(30 * time.Second):
		s.t.Fatal("aem-setup does not end")
	}
}

// keyOn finds the key that was shown last.
func keyOn(t *testing.T, shown string) string {
	t.Helper()
	at := strings.LastIndex(shown, "Key: ")
	if at < 0 {
		t.Fatalf("no key is shown in %q", shown)
	}
	line, _, _ := strings.Cut(shown[at+len("Key: "):], "\n")
	return strings.ReplaceAll(strings.TrimSpace(line), " ", "")
}

// phone is what an authenticator app shows.
func phone(t *testing.T, key string, at time.Time, digits int, alg string) string {
	t.Helper()
	out, err := exec.Command("oathtool", "--totp="+alg, "--digits", fmt.Sprint(digits), "--now", at.UTC().Format("2006-01-02 15:04:05 UTC"), "-b", key).CombinedOutput()
	if err != nil {
		t.Fatalf("oathtool: %v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// codes proves the machine with the medium, as a boot does.
func (l *laptop) codes(at time.Time, look func(*aem.Proof)) {
	l.t.Helper()
	m, closer, err := aem.Open(aem.Where{TPM: "swtpm:" + l.socket, Log: filepath.Join(l.dir, "log")}, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	defer closer.Close()
	m.Now = func() time.Time { return at }
	records, err := aem.ReadMedium([]string{l.dir}, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	p, err := m.Prove(l.t.Context(), records, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	look(p)
	p.Wipe()
}

func (l *laptop) wantCode(at time.Time, want string) {
	l.t.Helper()
	l.codes(at, func(p *aem.Proof) {
		if p.Codes == nil || p.Secret != nil {
			l.t.Fatal("the proof is a sentence")
		}
		if code, _, err := p.Codes.At(at); code != want || err != nil || p.Codes.Doubt != nil {
			l.t.Errorf("the machine shows %q, %v, doubt %v; the phone %q", code, err, p.Codes.Doubt, want)
		}
	})
}

func TestOneTimeCodes(t *testing.T) {
	testbed.Need(t, "oathtool")
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			l := newLaptop(t, v)
			l.want(aem.ExitUsage, "6, 7 or 8", "", "secret", "set", "totp", "--root", l.dir, "--digits", "9")
			l.want(aem.ExitError, "not set up yet", "", "secret", "set", "totp", "--root", l.dir)
			l.want(aem.ExitOK, "Ready.", "", "init", "--no-disks", "--medium", l.dir)
			l.want(aem.ExitOK, "Kept.", sentence+"\n", "secret", "set", "text")
			l.want(aem.ExitError, "shorter names", "", "secret", "set", "totp", "--root", l.dir, "--account", strings.Repeat("x", 99))
			kept := filepath.Join(l.dir, "home", "secret.aem")
			before := l.read(kept)

			// A phone that has another key, or another time, is not relied upon.
			x := pty.Open(t)
			s := l.start(x.TTY, x.TTY, "secret", "set", "totp", "--root", l.dir, "--issuer", "Maid", "--account", "a laptop", "--json")
			x.Expect(question)
			lost := keyOn(t, x.Seen())
			x.Send("12345\n")
			x.Expect("Not agreed, 1 of 5. " + question)
			x.Send(phone(t, lost, time.Now().Add(time.Hour), 6, "sha1") + "\n")
			x.Expect("Not agreed, 2 of 5. " + question)
			x.Send("\n")
			s.want(aem.ExitError, "")
			x = pty.Open(t)
			s = l.start(x.TTY, x.TTY, "secret", "set", "totp", "--root", l.dir)
			x.Expect(question)
			for try := 1; try < maxTries; try++ {
				x.Send("000 00\n")
				x.Expect(fmt.Sprintf("Not agreed, %d of 5. "+question, try))
			}
			x.Send("000 00\n")
			s.want(aem.ExitError, "")
			x.Expect("nothing was kept")
			// What went wrong is said after the key was cleared.
			if said := x.Seen()[strings.LastIndex(x.Seen(), clearScreen):]; strings.Contains(said, "Key:") || strings.Contains(said, "▀") {
				t.Errorf("after five wrong codes the terminal still shows %q", said)
			}
			if !bytes.Equal(l.read(kept), before) {
				t.Error("after wrong codes another secret is kept")
			}
			l.want(aem.ExitOK, "kept, sealed to this TPM", "", "status")

			// One that agrees is.
			x = pty.Open(t)
			s = l.start(x.TTY, x.TTY, "secret", "set", "totp", "--root", l.dir, "--issuer", "Maid", "--account", "a laptop", "--digits", "8")
			x.Expect(question)
			key := keyOn(t, x.Seen())
			if key == lost {
				t.Error("the key is one that was shown before")
			}
			wantQR(t, x.Seen(), key, totp.Params{Issuer: "Maid", Account: "a laptop", Digits: 8})
			code := phone(t, key, time.Now(), 8, "sha1")
			x.Send(code[:4] + " " + code[4:] + "\n")
			s.want(aem.ExitOK, "Kept.")
			x.Expect(question + code[:4] + " " + code[4:] + "\r\n" + clearScreen)
			l.want(aem.ExitOK, "one-time codes", "", "status")
			l.want(aem.ExitOK, "Sealed as generation 2", "", "seal")
			// Sealed again, without the key: nobody has it any more but the TPM and the phone.
			l.want(aem.ExitOK, "Sealed as generation 3", "", "seal")
			l.boot()
			now := time.Now()
			l.wantCode(now, phone(t, key, now, 8, "sha1"))
			later := now.Add(40 * time.Minute)
			l.wantCode(later, phone(t, key, later, 8, "sha1"))
			wantNoKey(t, l.dir, key)

			l.want(aem.ExitOK, "a key of one-time codes was set", "", "journal")

			// And a sentence takes its place again.
			l.want(aem.ExitOK, "Kept.", sentence+"\n", "secret", "set", "text")
			l.want(aem.ExitOK, "Sealed as generation 4", "", "seal")
			l.boot()
			l.codes(now, func(p *aem.Proof) {
				if p.Codes != nil || string(p.Secret) != sentence {
					t.Error("after a sentence was set the machine still shows codes")
				}
			})
		})
	}
}

// In a script, or where somebody types on another machine's terminal.
func TestOneTimeCodesWithoutATerminal(t *testing.T) {
	testbed.Need(t, "oathtool")
	l := newLaptop(t, tpm.V20)
	l.want(aem.ExitOK, "Ready.", "", "init", "--no-disks", "--medium", l.dir)
	var pipes [4]*os.File
	for i := 0; i < 4; i += 2 {
		var err error
		if pipes[i], pipes[i+1], err = os.Pipe(); err != nil {
			t.Fatal(err)
		}
		defer pipes[i].Close()
		defer pipes[i+1].Close()
	}
	in, typed, shown, errs := pipes[0], pipes[1], pipes[2], pipes[3]
	s := l.start(in, errs, "secret", "set", "totp", "--root", l.dir, "--account", "laptop", "--sha256", "--json")
	seen, buf := "", make([]byte, 4096)
	for !strings.HasSuffix(seen, question) {
		n, err := shown.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		seen += string(buf[:n])
	}
	if strings.Contains(seen, "\x1b") {
		t.Errorf("an escape sequence goes into a pipe: %q", seen)
	}
	key := keyOn(t, seen)
	wantQR(t, seen, key, totp.Params{Issuer: "AEM", Account: "laptop", Alg: tpm.SHA256})
	if _, err := typed.WriteString(phone(t, key, time.Now(), 6, "sha256") + "\n"); err != nil {
		t.Fatal(err)
	}
	s.want(aem.ExitOK, `{"kept":true,"kind":"totp"}`)
	// The end of the input gives up.
	l.want(aem.ExitError, "nothing was kept", "", "secret", "set", "totp", "--root", l.dir)
	l.want(aem.ExitOK, "Sealed as generation 2", "", "seal")
	l.boot()
	now := time.Now()
	l.wantCode(now, phone(t, key, now, 6, "sha256"))
	wantNoKey(t, l.dir, key)
}

func TestAHardwareClockInLocalTimeIsRefused(t *testing.T) {
	l := newLaptop(t, tpm.V20)
	adjtime := filepath.Join(l.dir, "etc", "adjtime")
	if err := os.MkdirAll(filepath.Dir(adjtime), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		content string
		exit    aem.Exit
		says    string
	}{
		{"0.0 0 0.0\n0\nUTC\n", aem.ExitError, "not set up yet"},
		{"0.0 0 0.0\n", aem.ExitError, "not set up yet"},
		{"0.0 0 0.0\n0\nLOCAL\n", aem.ExitNotPossible, "timedatectl set-local-rtc 0"},
	} {
		if err := os.WriteFile(adjtime, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		l.want(c.exit, c.says, "", "secret", "set", "totp", "--root", l.dir)
	}
}

// wantQR demands that the code which is shown has the key that stands below it.
func wantQR(t *testing.T, seen, key string, p totp.Params) {
	t.Helper()
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(key)
	if err != nil {
		t.Fatal(err)
	}
	uri, err := totp.URI(raw, p)
	if err != nil {
		t.Fatal(err)
	}
	qr, err := totp.NewQR(uri)
	if err != nil {
		t.Fatal(err)
	}
	seen = strings.NewReplacer(whiteOnBlack, "", normal, "", "\r", "").Replace(seen)
	for _, d := range []totp.Drawing{{Columns: 80, Rows: 22}, {Columns: 80, Rows: 23}} {
		drawing, err := qr.Draw(d)
		if err == nil && strings.Contains(seen, string(drawing)) {
			return
		}
	}
	t.Errorf("the QR code of %s is not on the screen", uri)
}

func (l *laptop) read(path string) []byte {
	l.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		l.t.Fatal(err)
	}
	return b
}

// wantNoKey looks through all files for the key, in each of its forms.
func wantNoKey(t *testing.T, dir, key string) {
	t.Helper()
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(key)
	if err != nil || len(raw) < 20 {
		t.Fatalf("the key has %d bytes, %v", len(raw), err)
	}
	files := 0
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		if bytes.Contains(b, raw) || bytes.Contains(b, []byte(key)) || bytes.Contains(b, []byte(key[:16])) {
			t.Errorf("%s holds the key", filepath.Base(path))
		}
		return err
	})
	if err != nil || files < 4 {
		t.Errorf("%d files were looked through, %v", files, err)
	}
}
