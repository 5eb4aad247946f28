package main

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"filippo.io/age"
	gotpm "github.com/google/go-tpm/tpm2"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/pty"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/internal/vtpmhost"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
	"github.com/antievilmaid/aem/vtpm/admin"
	"github.com/antievilmaid/aem/vtpm/root"
)

// pair is who can open escrows: a public key, and a file with the secret one.
func pair(t *testing.T) (public, file string) {
	t.Helper()
	x, err := age.GenerateX25519Identity()
	must(t, err)
	file = filepath.Join(t.TempDir(), "identity")
	must(t, os.WriteFile(file, []byte("# of a test\n"+x.String()+"\n"), 0o600))
	return x.Recipient().String(), file
}

// locked is the same identity, encrypted with a passphrase.
func locked(t *testing.T, identity, passphrase string) string {
	t.Helper()
	b, err := os.ReadFile(identity)
	must(t, err)
	to, err := age.NewScryptRecipient(passphrase)
	must(t, err)
	to.SetWorkFactor(10)
	var out bytes.Buffer
	w, err := age.Encrypt(&out, to)
	must(t, err)
	_, err = w.Write(b)
	must(t, errors.Join(err, w.Close()))
	must(t, os.WriteFile(identity+".locked", out.Bytes(), 0o600))
	return identity + ".locked"
}

func contents(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

// row is what doctor says of one thing.
func (h *host) row(name string) Row {
	h.t.Helper()
	for _, r := range decoded[[]Row](h, h.at("doctor")...) {
		if r.Name == name {
			return r
		}
	}
	h.t.Fatalf("doctor has no row %q", name)
	return Row{}
}

func eachFamily(t *testing.T, test func(*testing.T, tpm.Version)) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) { test(t, v) })
	}
}

// guests are a vTPM of each family, and who they are.
func (h *host) guests() (list []admin.VTPM, who []string) {
	for _, family := range []string{"2.0", "1.2"} {
		v := h.New("a guest", family)
		list, who = append(list, v), append(who, h.Identity(v))
	}
	return list, who
}

// same demands that vTPMs are on this host who they were.
func (h *host) same(list []admin.VTPM, who []string) {
	h.t.Helper()
	for i, v := range list {
		v, err := h.Show(h.t.Context(), v.UUID)
		must(h.t, err)
		if h.Identity(v) != who[i] {
			h.t.Errorf("the TPM %s of family %s is another one", v.UUID, v.Family)
		}
	}
}

// What was escrowed brings guests' TPMs, as they were, to another TPM: from a backup to an empty machine (TPM 2.0),
// or with the disk (TPM 1.2).
func TestTheEscrowOutlivesTheMainBoard(t *testing.T) {
	if !testbed.Alone(t) {
		return
	}
	eachFamily(t, func(t *testing.T, v tpm.Version) {
		old := newBoard(t, v)
		old.Do(aem.ExitOK, "The store", "init")
		d := old.Start()
		list, who := old.guests()
		public, identity := pair(t)
		_, strangers := pair(t)
		file, backup := filepath.Join(t.TempDir(), "escrow"), filepath.Join(t.TempDir(), "backup")
		if r := old.row("escrow"); r.State != warning || !strings.Contains(r.Text, "none was made") {
			t.Errorf("%+v", r)
		}
		old.want(aem.ExitOK, "encrypted", "", "escrow", "--to", public, file)
		old.want(aem.ExitOK, "", "", "backup", backup)
		if r := old.row("escrow"); r.State != good || !strings.Contains(r.Text, public) {
			t.Errorf("%+v", r)
		}
		d.Stop()
		if r := old.row("escrow"); r.State != good || !strings.Contains(r.Text, public) {
			t.Errorf("without vtpmd: %+v", r)
		}

		next := newBoard(t, v)
		restore := []string{"restore", "--escrow", file, "--identity", identity}
		if v == tpm.V20 {
			restore = append(restore, backup)
		} else {
			must(t, os.CopyFS(next.State(), os.DirFS(old.State())))
			next.Do(aem.ExitOtherTPM, "vtpmctl restore --escrow")
		}
		next.want(aem.ExitUsage, "each vTPM in", "", next.at(restore...)...)
		next.want(aem.ExitUsage, "exist twice", "", next.at(restore...)...)
		next.want(aem.ExitError, "made for another identity", "", next.at(append(restore, "--yes", "--identity", strangers)...)...)
		next.Restart(func(*swtpm.TPM) {})
		next.want(aem.ExitMeasurements, "not a dynamic launch", "", next.at(append(restore, "--yes")...)...)
		next.Boot("on another board")
		if v == tpm.V20 {
			next.untouched(append(restore, "--yes"))
		} else {
			next.setUpElsewhere(append(restore, "--yes"))
		}
		out := next.want(aem.ExitOK, "rests on this TPM", "", next.at(append(restore, "--yes")...)...)
		if moved := strings.Count(out, ".before-"); moved != map[tpm.Version]int{tpm.V20: 0, tpm.V12: 2}[v] {
			t.Errorf("%d things were moved aside: %s", moved, out)
		}
		d = next.Start()
		next.same(list, who)
		if r := next.row("escrow"); r.State != warning {
			t.Errorf("on the new TPM: %+v", r)
		}
		if v == tpm.V20 { // the audit log stayed behind, and the store knows that there was one
			if exit, _, errs := next.ctl("", "audit"); exit == aem.ExitOK {
				t.Errorf("another audit log counts as the one that there was: %s", errs)
			}
			next.want(aem.ExitOK, "", "", "audit", "--accept")
		}
		next.want(aem.ExitOK, "moved", "", "audit")
		d.Stop()
		next.Boot("evil")
		next.Do(aem.ExitMeasurements, "not one that was approved")
	})
}

// setUpElsewhere has restoring fail because anti-evil-maid's own set-up came along with the disk.
func (h *host) setUpElsewhere(restore []string) {
	h.t.Helper()
	other := newBoard(h.t, h.Launch.Version)
	m, closer, err := aem.Open(aem.Where{TPM: other.TPM(), Log: filepath.Join(other.Dir, "log")}, nil)
	must(h.t, err)
	home := filepath.Join(h.Dir, "home")
	_, err = m.Init(aem.OpenHome(home), filepath.Join(other.Dir, "medium"), nil)
	must(h.t, errors.Join(err, closer.Close()))
	h.want(aem.ExitOtherTPM, "aem-setup uninstall", "", h.at(restore...)...)
	must(h.t, os.RemoveAll(home))
}

// untouched has restoring fail because the disk is full: the folder is as it was, and so is the TPM.
func (h *host) untouched(restore []string) {
	h.t.Helper()
	var old syscall.Rlimit
	must(h.t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old))
	must(h.t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 20000, Max: old.Max}))
	exit, out, errs := h.ctl("", h.at(restore...)...)
	must(h.t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old))
	if exit != aem.ExitError || !strings.Contains(errs, "file too large") {
		h.t.Errorf("on a full disk: exit %d, %s%s", exit, out, errs)
	}
	left, err := os.ReadDir(h.State())
	must(h.t, err)
	for _, e := range left {
		if e.Name() != "lock" && e.Name() != "journal" {
			h.t.Errorf("%s is left", e.Name())
		}
	}
	conn, err := swtpm.Dial(strings.TrimPrefix(h.TPM(), "swtpm:"))
	must(h.t, err)
	defer conn.Close()
	if counters, err := tpm2.New(conn).HasCounters(); err != nil || counters {
		h.t.Errorf("a counter is left in the TPM: %t, %v", counters, err)
	}
}

// On the machine's own TPM that was cleared, guests' TPMs are who they were.
func TestTheEscrowOutlivesAClear(t *testing.T) {
	h := newHost(t)
	d := h.Start()
	list, who := h.guests()
	public, identity := pair(t)
	file := filepath.Join(t.TempDir(), "escrow")
	h.want(aem.ExitOK, "encrypted", "", "escrow", "--to", public, file)
	d.Stop()
	h.Restart(func(conn *swtpm.TPM) {
		_, err := gotpm.Clear{AuthHandle: gotpm.TPMRHPlatform}.Execute(conn)
		must(t, err)
	})
	h.Boot("approved")
	h.Do(aem.ExitOtherTPM, "vtpmctl restore --escrow")
	with := []string{"--escrow", file, "--identity", identity, "--yes"}
	h.want(aem.ExitOtherTPM, "vtpmctl restore --escrow", "", h.at(append([]string{"recover"}, with...)...)...)
	h.want(aem.ExitOK, "rests on this TPM", "", h.at(append([]string{"restore"}, with...)...)...)
	d = h.Start()
	h.same(list, who)
	h.want(aem.ExitOK, "moved", "", "audit")
	d.Stop()
}

// On the TPM that the store rests on, the escrow takes a boot that nobody approved, and lets no older store in.
func TestTheEscrowOpensAChangedMachine(t *testing.T) {
	eachFamily(t, func(t *testing.T, v tpm.Version) {
		h := newBoard(t, v)
		h.Do(aem.ExitOK, "The store", "init")
		d := h.Start()
		list, who := h.guests()
		public, identity := pair(t)
		file := filepath.Join(t.TempDir(), "escrow")
		h.want(aem.ExitOK, "encrypted", "", "escrow", "--to", public, file)
		again := h.at("recover", "--escrow", file, "--identity", identity)
		h.want(aem.ExitError, "systemctl stop vtpmd", "", append(again, "--yes")...)
		store := filepath.Join(h.State(), "vtpms")
		older := contents(t, store)
		h.New("later", "2.0")
		d.Stop()

		h.Boot("changed")
		h.Do(aem.ExitMeasurements, "vtpmctl recover")
		h.want(aem.ExitError, "Use vtpmctl recover", "", h.at("restore", "--escrow", file, "--identity", identity, "--yes")...)
		h.want(aem.ExitUsage, "becomes an approved one", "", again...)
		h.Restart(func(*swtpm.TPM) {})
		h.want(aem.ExitMeasurements, "not a dynamic launch", "", append(again, "--yes")...)
		h.Boot("changed")
		h.want(aem.ExitOK, "opens in this boot", "", append(again, "--yes")...)
		d = h.Start()
		h.same(list, who)
		h.want(aem.ExitOK, "recovered", "", "audit")
		d.Stop()
		newest := contents(t, store)
		must(t, os.WriteFile(store, older, 0o600))
		h.Do(aem.ExitStale, "put back from an earlier time")
		must(t, os.WriteFile(store, newest, 0o600))

		// The folder with the key can be made anew, too. What was done is written down, also where there is no store.
		must(t, os.RemoveAll(filepath.Join(h.State(), "root")))
		h.Do(aem.ExitNotPossible, "vtpmctl recover")
		must(t, os.Remove(store))
		h.want(aem.ExitDamaged, "does not open", "", append(again, "--yes")...)
		if n := bytes.Count(contents(t, filepath.Join(h.State(), "journal")), []byte(`"kind":"recovered"`)); n != 2 {
			t.Errorf("the audit log has it %d times, not twice", n)
		}
		backup := filepath.Join(t.TempDir(), "backup")
		must(t, os.WriteFile(backup, newest, 0o600))
		h.want(aem.ExitOK, "was restored", "", h.at("restore", "--yes", backup)...)
		d = h.Start()
		h.same(list, who)
		d.Stop()
		h.Boot("approved")
		h.Do(aem.ExitMeasurements, "not one that was approved")
	})
}

// What leaves vtpmd is encrypted, opens for its recipients alone and only whole, and age's own program opens it.
func TestAnEscrowIsForItsRecipients(t *testing.T) {
	testbed.Need(t, "age")
	h := newHost(t)
	d := h.Start()
	h.New("a guest", "2.0")
	public, identity := pair(t)
	second, secondIdentity := pair(t)
	_, strangers := pair(t)
	dir := t.TempDir()
	file, keys := filepath.Join(dir, "escrow"), filepath.Join(dir, "keys")
	must(t, os.WriteFile(keys, []byte("# two of us\n"+public+"\n"+second+"\n"), 0o600))

	h.want(aem.ExitUsage, "--to is needed", "", "escrow", file)
	h.want(aem.ExitUsage, "a secret one", "", "escrow", "--to", strings.Split(string(contents(t, identity)), "\n")[1], file)
	h.want(aem.ExitError, "public keys of age's", "", "escrow", "--to", "age1nobody", file)
	exit, out, errs := h.ctl("", "escrow", "--to", identity, file)
	if exit != aem.ExitError || strings.Contains(out+errs, "AGE-SECRET") {
		t.Errorf("exit %d, %s%s", exit, out, errs)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("there is a file, and no escrow")
	}
	exit, out, errs = h.ctl("", "escrow", "--to", keys, file)
	if exit != aem.ExitOK {
		t.Fatalf("exit %d, %s%s", exit, out, errs)
	}
	said := out + errs
	h.want(aem.ExitError, "is there already", "", "escrow", "--to", public, file)
	hybrid, err := age.GenerateHybridIdentity()
	must(t, err)
	h.want(aem.ExitOK, "encrypted", "", "escrow", "--to", hybrid.Recipient().String(), file+".hybrid")
	if r := h.row("escrow"); r.State != good || len(r.Text) > 200 {
		t.Errorf("%+v", r)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	said += h.want(aem.ExitOK, "escrowed", "", "audit")
	if !strings.Contains(said, public) || !strings.Contains(said, second) {
		t.Errorf("the audit log does not say to whom: %s", said)
	}
	d.Stop()
	said += d.Said()

	escrow := contents(t, file)
	var secret []byte
	for _, i := range []string{identity, secondIdentity} {
		b, err := exec.Command("age", "-d", "-i", i, file).Output()
		must(t, err)
		ours, err := vtpmhost.OpenEscrow(escrow, contents(t, i), nil)
		must(t, err)
		if !bytes.Equal(b, ours) {
			t.Error("age's program has another secret")
		}
		secret = b
	}
	if b, err := vtpmhost.OpenEscrow(contents(t, file+".hybrid"), []byte(hybrid.String()), nil); err != nil || !bytes.Equal(b, secret) {
		t.Errorf("with a hybrid key: %v", err)
	}
	_, key, err := root.Escrowed(secret)
	must(t, err)
	h.nowhere(said, key)

	if _, err := vtpmhost.OpenEscrow(escrow, contents(t, strangers), nil); !errors.Is(err, vtpmhost.ErrNoEscrow) {
		t.Errorf("for a stranger: %v", err)
	}
	for i := range escrow[:len(escrow)-1] { // but the last line feed
		spoilt := bytes.Clone(escrow)
		spoilt[i] ^= 1
		if _, err := vtpmhost.OpenEscrow(spoilt, contents(t, identity), nil); !errors.Is(err, vtpmhost.ErrNoEscrow) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if _, err := vtpmhost.OpenEscrow(escrow[:i], contents(t, identity), nil); !errors.Is(err, vtpmhost.ErrNoEscrow) {
			t.Fatalf("%d bytes of it: %v", i, err)
		}
	}
	must(t, os.WriteFile(file, escrow[:len(escrow)/2], 0o600))
	h.want(aem.ExitError, "it is damaged", "", h.at("recover", "--yes", "--escrow", file, "--identity", identity)...)
	h.want(aem.ExitError, "its beginning is damaged", "", h.at("recover", "--yes", "--escrow", identity, "--identity", identity)...)
}

// nowhere looks for a key in what was said, and in all that the host has on its disk.
func (h *host) nowhere(said string, key []byte) {
	h.t.Helper()
	read := 0
	look := func(name string, b []byte) {
		for _, form := range [][]byte{key, []byte(hex.EncodeToString(key)), []byte(base64.StdEncoding.EncodeToString(key)), []byte(base64.RawStdEncoding.EncodeToString(key))} {
			if bytes.Contains(b, form) {
				h.t.Errorf("the store's key is in %s", name)
			}
		}
	}
	look("what was said", []byte(said))
	must(h.t, filepath.WalkDir(h.Dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		look(path, b)
		read++
		return err
	}))
	if read < 4 {
		h.t.Errorf("only %d files were looked at", read)
	}
}

// An identity that is encrypted opens with its passphrase, which is asked for without showing it.
func TestAnEncryptedIdentity(t *testing.T) {
	h := newHost(t)
	d := h.Start()
	public, identity := pair(t)
	identity = locked(t, identity, "a lighthouse")
	file := filepath.Join(t.TempDir(), "escrow")
	h.want(aem.ExitOK, "encrypted", "", "escrow", "--to", public, file)
	d.Stop()
	again := h.at("recover", "--escrow", file, "--identity", identity)
	h.want(aem.ExitError, "--password-file", "", again...)
	for word, words := range map[string]string{"a lighthouse": "The escrow opens", "another": "with this passphrase"} {
		path := filepath.Join(t.TempDir(), "word")
		must(t, os.WriteFile(path, []byte(word+"\n"), 0o600))
		if _, _, errs := h.ctl("", append(again, "--password-file", path)...); !strings.Contains(errs, words) {
			t.Errorf("%q: %s", word, errs)
		}
		x := pty.Open(t)
		func() {
			defer func(i, e *os.File) { os.Stdin, os.Stderr = i, e }(os.Stdin, os.Stderr)
			os.Stdin, os.Stderr = x.TTY, x.TTY
			cmd, end := newCommand(), make(chan struct{})
			go func() {
				defer close(end)
				cli.Run(t.Context(), cmd, again)
			}()
			x.Expect("Passphrase of " + identity)
			x.Send(word + "\n")
			<-end
			x.Expect(words)
		}()
		if strings.Contains(x.Seen(), word) {
			t.Errorf("it is shown: %s", x.Seen())
		}
	}
}
