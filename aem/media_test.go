package aem_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// stick adds a medium in a folder of its own.
func (l *laptop) stick(name string) string {
	l.t.Helper()
	dir := l.t.TempDir()
	_, err := l.AddMedium(l.home, name, dir, "1234-ABCD")
	l.must(err)
	return dir
}

// from lets the machine prove itself with the records of a folder.
func (l *laptop) from(dir string) (*aem.Proof, error) {
	l.t.Helper()
	records, err := aem.ReadMedium([]string{dir}, 0)
	l.must(err)
	return l.Prove(l.t.Context(), records, answering(nil))
}

func (l *laptop) wantCause(dir string, cause aem.Cause) {
	l.t.Helper()
	_, err := l.from(dir)
	var r *aem.Refusal
	if !errors.As(err, &r) || r.Cause != cause {
		l.t.Errorf("got %v; want a refusal as %s", err, cause)
	}
}

// copyOf is a copy of a medium, as a thief or a backup makes it.
func (l *laptop) copyOf(dir string) string {
	l.t.Helper()
	c := l.t.TempDir()
	l.must(os.CopyFS(c, os.DirFS(dir)))
	return c
}

// A second stick opens as the first medium does; revoked, neither it nor any copy of
// it does, wherever it is, and the others go on.
func TestASecondStickAndItsRevocation(t *testing.T) {
	eachFamily(t, func(t *testing.T, l *laptop) {
		l.boot()
		l.setUp("")
		dir := l.stick("blue")
		lost := l.copyOf(dir)
		for _, d := range []string{dir, l.medium, lost} {
			l.boot()
			if p, err := l.from(d); err != nil || string(p.Secret) != sentence {
				t.Fatalf("a medium does not open: %v", err)
			}
		}
		l.must(l.Revoke(l.home, "blue"))
		l.boot()
		l.wantCause(lost, aem.CauseStale)
		l.wantCause(dir, aem.CauseStale)
		if _, err := l.from(l.medium); err != nil {
			t.Errorf("the other medium: %v", err)
		}
		if err := l.Revoke(l.home, aem.FirstMedium); !errors.Is(err, aem.ErrLastMedium) {
			t.Errorf("the last medium is revoked: %v", err)
		}
	})
}

// A stick that was away while the secret was sealed anew is behind, and is synced.
func TestAStickThatWasAway(t *testing.T) {
	l := newLaptop(t, tpm.V20, 2)
	l.boot()
	l.setUp("2718")
	dir := l.stick("blue")
	away := dir + "-away"
	l.must(os.Rename(dir, away))
	old := l.copyOf(l.medium)

	l.Kernel, l.Initrd = testbed.BzImage("newer"), []byte("newer")
	l.boot()
	boot, err := l.Boot()
	l.must(err)
	state, err := boot.Present("newer")
	l.must(err)
	sealed, err := l.Seal(l.home, []seal.State{*state}, []byte("2718"))
	if err != nil || len(sealed) != 2 || sealed[0].Away || !sealed[1].Away {
		t.Fatalf("sealed to %+v, %v", sealed, err)
	}
	l.must(os.Rename(away, dir))
	status := func(name string) aem.MediumStatus {
		list, err := l.MediaStatus(l.home)
		l.must(err)
		for _, st := range list {
			if st.Name == name {
				return st
			}
		}
		t.Fatalf("there is no medium %s", name)
		return aem.MediumStatus{}
	}
	if st := status("blue"); !st.Present || !st.Behind || st.Problem != "" {
		t.Errorf("before the sync: %+v", st)
	}
	if done, err := l.Sync(l.home); err != nil || len(done) != 1 || done[0].Medium != "blue" {
		t.Errorf("synced %+v, %v", done, err)
	}
	if st := status("blue"); st.Behind {
		t.Errorf("after the sync: %+v", st)
	}
	l.boot()
	records, err := aem.ReadMedium([]string{dir}, 0)
	l.must(err)
	if p, err := l.Prove(t.Context(), records, answering([]string{"2718"})); err != nil || string(p.Secret) != sentence {
		t.Errorf("the stick after the sync: %v", err)
	}
	// The first medium's old copy is dead.
	l.wantCause(old, aem.CauseStale)
}

// So is one that was away while another secret was sealed to the same states.
func TestAStickWithTheSecretFromBefore(t *testing.T) {
	l := newLaptop(t, tpm.V20, 2)
	l.boot()
	l.setUp("")
	dir := l.stick("blue")
	away := dir + "-away"
	l.must(os.Rename(dir, away))
	l.must(l.SetText(l.home, []byte("another sentence")))
	l.sealNow("")
	l.must(os.Rename(away, dir))
	if behind, err := l.Behind(l.home); err != nil || !slices.Equal(behind, []string{"blue"}) {
		t.Errorf("behind are %q, %v", behind, err)
	}
	if done, err := l.Sync(l.home); err != nil || len(done) != 1 || done[0].Medium != "blue" {
		t.Errorf("synced %+v, %v", done, err)
	}
	if behind, err := l.Behind(l.home); err != nil || len(behind) != 0 {
		t.Errorf("after the sync behind are %q, %v", behind, err)
	}
	l.boot()
	if p, err := l.from(dir); err != nil || string(p.Secret) != "another sentence" {
		t.Errorf("the stick after the sync: %v", err)
	}
}

// Whoever puts one medium's record onto another does not make two of it: the counter
// is the record's own.
func TestARecordOnAnotherMedium(t *testing.T) {
	l := newLaptop(t, tpm.V20, 2)
	l.boot()
	l.setUp("")
	dir := l.stick("blue")
	l.must(os.RemoveAll(filepath.Join(dir, aem.RecordsFolder)))
	l.must(os.CopyFS(filepath.Join(dir, aem.RecordsFolder), os.DirFS(filepath.Join(l.medium, aem.RecordsFolder))))
	list, err := l.MediaStatus(l.home)
	l.must(err)
	if list[1].Problem == "" {
		t.Errorf("the list says nothing of it: %+v", list[1])
	}
}

func TestMediaHaveNames(t *testing.T) {
	l := newLaptop(t, tpm.V20, 2)
	l.boot()
	l.setUp("")
	l.stick("blue")
	if _, err := l.AddMedium(l.home, "blue", t.TempDir(), ""); !errors.Is(err, aem.ErrMediumName) {
		t.Errorf("the same name twice: %v", err)
	}
	l.must(l.home.RenameMedium("blue", "red"))
	if err := l.home.RenameMedium("blue", "green"); !errors.Is(err, aem.ErrNoSuchMedium) {
		t.Errorf("a name that is gone: %v", err)
	}
	if err := l.home.RenameMedium("red", aem.FirstMedium); !errors.Is(err, aem.ErrMediumName) {
		t.Errorf("a name that is taken: %v", err)
	}
	l.must(l.RemoveMedium(l.home, "red"))
	list, err := l.MediaStatus(l.home)
	if err != nil || len(list) != 1 {
		t.Errorf("after the removal there are %d media, %v", len(list), err)
	}
}

// After an uninstall the TPM holds what it held before.
func TestUninstallGivesTheTPMBack(t *testing.T) {
	eachFamily(t, func(t *testing.T, l *laptop) {
		l.boot()
		if was, err := l.Chip.Provisioned(); err != nil || was {
			t.Fatalf("before: %t, %v", was, err)
		}
		l.setUp("")
		dir := l.stick("blue")
		l.must(l.Uninstall(l.home))
		if was, err := l.Chip.Provisioned(); err != nil || was {
			t.Errorf("afterwards counters are left: %t, %v", was, err)
		}
		for _, path := range []string{l.homeDir, filepath.Join(l.medium, aem.RecordsFolder), filepath.Join(dir, aem.RecordsFolder)} {
			if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is left: %v", filepath.Base(path), err)
			}
		}
		// And it can be set up again.
		l.boot()
		if l.Version == tpm.V20 {
			l.setUp("")
			l.boot()
			l.wantProof()
		}
	})
}

// Who has the board exchanged, or the TPM cleared, sets the machine up anew. What another
// machine keeps in that TPM is left alone.
func TestAMachineWithAnotherTPMIsSetUpAnew(t *testing.T) {
	eachFamily(t, func(t *testing.T, l *laptop) {
		l.boot()
		l.setUp("")
		l.clearTPM()
		l.boot()
		list, err := l.MediaStatus(l.home)
		if err != nil || len(list) != 1 || list[0].Problem == "" {
			t.Errorf("the media are listed as %+v, %v", list, err)
		}
		l.must(l.Uninstall(l.home))
		l.boot()
		l.setUp("")
		l.boot()
		l.wantProof()

		chip, _ := testbed.NewForeignTPM(t, l.Version)
		other := laptopWith(t, chip, l.Version, l.Platform)
		other.boot()
		other.setUp("")
		l.must(other.Uninstall(l.home)) // the disk of one machine in the other
		other.boot()
		other.wantProof()
	})
}
