package qemu_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm/qemu"
)

func TestTheSocketIsForItsUsersAlone(t *testing.T) {
	group := uint32(os.Getgid())
	if group == 0 {
		group = 1 // root may give it to any
	}
	for _, c := range []struct {
		group uint32
		want  os.FileMode
	}{{0, 0o600}, {group, 0o660}} {
		path := filepath.Join(t.TempDir(), "sock")
		s, err := qemu.Listen(qemu.Config{Path: path, Keeper: newFake(tpm.V20), Group: c.group, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != c.want || c.group != 0 && info.Sys().(*syscall.Stat_t).Gid != c.group {
			t.Errorf("with group %d it is %v of group %d", c.group, info.Mode(), info.Sys().(*syscall.Stat_t).Gid)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(path); err == nil {
			t.Error("it is still there")
		}
	}
}

func TestAPathThatIsTooLongIsNamed(t *testing.T) {
	_, err := qemu.Listen(qemu.Config{Path: "/run/" + strings.Repeat("x", 103), Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "107") {
		t.Errorf("it says: %v", err)
	}
}
