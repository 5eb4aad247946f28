package unpack_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/unpack"
)

func TestDiff(t *testing.T) {
	before := mustRead(t, newc(
		dir("d"), file("d/same", "s"), file("d/contents", "1"), file("d/mode", "m"), file("d/owner", "o"), file("d/all", "a"),
		link("d/link", "old"), item{name: "d/tty", mode: 0o20600, major: 5, minor: 0}, file("d/type", "t"), file("gone", "g"), link("lost", "x"),
		file("twice", "1"), file("twice", "2"), file("once", "1"), file("once", "2"),
	))
	after := mustRead(t, join(newc(
		dir("d"), file("d/same", "s"), file("d/contents", "2"), item{name: "d/mode", mode: 0o104755, body: "m"},
		item{name: "d/owner", mode: 0o100644, uid: 1, gid: 2, body: "o"}, item{name: "d/all", mode: 0o100600, uid: 1, body: "b"},
		link("d/link", "new\n"), item{name: "d/tty", mode: 0o20600, major: 5, minor: 1}, link("d/type", "t"), trailer,
	), padded(zip(newc(dir("new"), file("new/file", "12345"), link("new/link", "a\x1b[2J"), item{name: "new/disk", mode: 0o60660, major: 8, minor: 1},
		item{name: "new/pipe", mode: 0o10600}, item{name: "new/socket", mode: 0o140600},
		file("twice", "1"), file("twice", "2"), file("once", "2"), file("no/where", "n"), file("no/where", "n"))), 4)))
	want := []unpack.Change{
		{Path: "d/all", Kind: unpack.Changed, Detail: "contents, mode 0644 -> 0600, owner 0:0 -> 1:0"},
		{Path: "d/contents", Kind: unpack.Changed, Detail: "contents"},
		{Path: "d/link", Kind: unpack.Changed, Detail: `link target "old" -> "new\n"`},
		{Path: "d/mode", Kind: unpack.Changed, Detail: "mode 0644 -> 4755"},
		{Path: "d/owner", Kind: unpack.Changed, Detail: "owner 0:0 -> 1:2"},
		{Path: "d/tty", Kind: unpack.Changed, Detail: "device 5:0 -> 5:1"},
		{Path: "d/type", Kind: unpack.Changed, Detail: `file -> link, link target "" -> "t", mode 0644 -> 0777`},
		{Path: "gone", Kind: unpack.Removed, Detail: "1 bytes, mode 0644"},
		{Path: "lost", Kind: unpack.Removed, Detail: `link to "x"`},
		{Path: "new", Kind: unpack.Added, Detail: "directory, mode 0755"},
		{Path: "new/disk", Kind: unpack.Added, Detail: "block device 8:1, mode 0660"},
		{Path: "new/file", Kind: unpack.Added, Detail: "5 bytes, mode 0644"},
		{Path: "new/link", Kind: unpack.Added, Detail: `link to "a\x1b[2J"`},
		{Path: "new/pipe", Kind: unpack.Added, Detail: "named pipe, mode 0600"},
		{Path: "new/socket", Kind: unpack.Added, Detail: "socket, mode 0600"},
		{Path: "no/where", Kind: unpack.Covered, Detail: "1 bytes, mode 0644: its directory is not there"},
		{Path: "no/where", Kind: unpack.Covered, Detail: "1 bytes, mode 0644: its directory is not there"},
	}
	if d := cmp.Diff(want, unpack.Diff(before, after)); d != "" {
		t.Error(d)
	}
	for _, tree := range []*unpack.Tree{before, after} {
		if same := unpack.Diff(tree, tree); len(same) > 0 {
			t.Errorf("an image differs from itself: %v", same)
		}
	}
}

func TestKindsHaveNames(t *testing.T) {
	for k, want := range map[unpack.Kind]string{
		unpack.Added: "added", unpack.Removed: "removed", unpack.Changed: "changed", unpack.Covered: "covered", 9: "Kind(9)",
	} {
		if k.String() != want {
			t.Errorf("kind %d is called %q; want %q", int(k), k, want)
		}
	}
}

// An attacker may put the old archive behind an own one in a way that only some
// kernels read. What lies below is shown in any case.
func TestWhatIsCoveredIsShown(t *testing.T) {
	good := newc(file("init", "good"))
	changes := unpack.Diff(mustRead(t, good), mustRead(t, join(newc(file("init", "evil"), trailer), good)))
	want := []unpack.Change{{Path: "init", Kind: unpack.Covered, Detail: "4 bytes, mode 0644: a later entry replaces it"}}
	if d := cmp.Diff(want, changes); d != "" {
		t.Error(d)
	}
}
