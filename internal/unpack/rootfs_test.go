package unpack_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// scenario is a number of entries and what the kernel leaves of them. All paths
// are below the directory p, which is there. TestTheKernelLeavesTheSame asks a
// kernel about all of them.
type scenario struct {
	name   string
	items  func(p string) []item
	files  []string // of showFile, without p
	hidden []string
}

func scenarios() []scenario {
	return []scenario{{
		name:  "a later file replaces an earlier one",
		items: func(p string) []item { return []item{file(p+"a", "old"), file(p+"a", "newer")} },
		files: []string{"a 100644" + has("newer")}, hidden: []string{"a 100644" + has("old") + ": a later entry replaces it"},
	}, {
		name: "the same file twice is nothing to tell",
		items: func(p string) []item {
			return []item{dir(p + "d"), file(p+"d/a", "x"), dir(p + "d"), file(p+"d/a", "x")}
		},
		files: []string{"d 040755", "d/a 100644" + has("x")},
	}, {
		name:  "a later entry changes mode and owner alone",
		items: func(p string) []item { return []item{dir(p + "d"), {name: p + "d", mode: 0o41777, uid: 1, gid: 2}} },
		files: []string{"d 041777 of 1:2"}, hidden: []string{"d 040755: a later entry replaces it"},
	}, {
		name: "an owner with all bits set leaves the owner",
		items: func(p string) []item {
			return []item{{name: p + "a", mode: 0o100644, uid: 7, gid: 8}, {name: p + "a", mode: 0o100644, uid: 1<<32 - 1, gid: 9}}
		},
		files: []string{"a 100644" + has("") + " of 7:9"}, hidden: []string{"a 100644" + has("") + " of 7:8: a later entry replaces it"},
	}, {
		name: "only 16 bits of the mode count",
		items: func(p string) []item {
			return []item{{name: p + "a", mode: 0xdead<<16 | 0o104755, body: "x"}, {name: p + "none/b", mode: 0xdead<<16 | 0o40755}}
		},
		files: []string{"a 104755" + has("x")}, hidden: []string{"none/b 040755: its directory is not there"},
	}, {
		name:   "a path without its directory is lost",
		items:  func(p string) []item { return []item{file(p+"none/a", "x")} },
		hidden: []string{"none/a 100644" + has("x") + ": its directory is not there"},
	}, {
		name: "dots and slashes are walked",
		items: func(p string) []item {
			return []item{dir(p + "d"), file("./"+p+"//d/.././a", "x"), file("/../"+p+"d/b", "y")}
		},
		files: []string{"a 100644" + has("x"), "d 040755", "d/b 100644" + has("y")},
	}, {
		name: "going up from what is not there leads nowhere",
		items: func(p string) []item {
			return []item{file(p+"init", "evil"), file(p+"none/../init", "good"), file(p+"init/../init", "good")}
		},
		files: []string{"init 100644" + has("evil")},
		hidden: []string{
			"none/../init 100644" + has("good") + ": its directory is not there",
			"init/../init 100644" + has("good") + ": something in the middle of its path is no directory",
		},
	}, {
		name: "links in the middle of a path are followed",
		items: func(p string) []item {
			return []item{dir(p + "usr"), dir(p + "usr/bin"), link(p+"bin", "usr/bin"), link(p+"sbin", "/"+p+"bin"),
				file(p+"usr/bin/sh", "old"), file(p+"sbin/sh", "new"), file(p+"sbin/../up", "u")}
		},
		files:  []string{"bin 120777 -> usr/bin", "sbin 120777 -> /P/bin", "usr 040755", "usr/bin 040755", "usr/bin/sh 100644" + has("new"), "usr/up 100644" + has("u")},
		hidden: []string{"usr/bin/sh 100644" + has("old") + ": a later entry replaces it"},
	}, {
		name: "links at the end of a path are replaced",
		items: func(p string) []item {
			return []item{file(p+"a", "x"), link(p+"l", "a"), file(p+"l", "y"), link(p+"m", "a"), dir(p + "m"), link(p+"n", "a"), link(p+"n", "b")}
		},
		files:  []string{"a 100644" + has("x"), "l 100644" + has("y"), "m 040755", "n 120777 -> b"},
		hidden: []string{"l 120777 -> a: a later entry replaces it", "m 120777 -> a: a later entry replaces it", "n 120777 -> a: a later entry replaces it"},
	}, {
		name:   "circles of links",
		items:  func(p string) []item { return []item{link(p+"a", "b"), link(p+"b", "a"), file(p+"a/x", "1")} },
		files:  []string{"a 120777 -> b", "b 120777 -> a"},
		hidden: []string{"a/x 100644" + has("1") + ": its path runs in a circle of symbolic links"},
	}, {
		name: "a chain of 40 links is followed, one of 41 is not",
		items: func(p string) []item {
			list := []item{dir(p + "d"), link(p+"l1", "d")}
			for i := 2; i <= 41; i++ {
				list = append(list, link(p+fmt.Sprintf("l%d", i), fmt.Sprintf("l%d", i-1)))
			}
			return append(list, file(p+"l40/a", "x"), file(p+"l41/b", "y"))
		},
		files: func() []string {
			list := []string{"d 040755", "d/a 100644" + has("x"), "l1 120777 -> d"}
			for _, i := range []int{10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 2, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 3, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 4, 40, 41, 5, 6, 7, 8, 9} {
				list = append(list, fmt.Sprintf("l%d 120777 -> l%d", i, i-1))
			}
			return list
		}(),
		hidden: []string{"l41/b 100644" + has("y") + ": its path runs in a circle of symbolic links"},
	}, {
		name: "a directory gives way only if it is empty",
		items: func(p string) []item {
			return []item{dir(p + "e"), dir(p + "f"), file(p+"f/x", "1"), file(p+"e", "2"), file(p+"f", "3"), {name: p + "f", mode: 0o120777, body: "x", uid: 5}}
		},
		files: []string{"e 100644" + has("2"), "f 040755 of 5:0", "f/x 100644" + has("1")},
		hidden: []string{
			"e 040755: a later entry replaces it",
			"f 100644" + has("3") + ": a directory stands at its path",
			"f 040755: a later entry replaces it",
			"f 120777 -> x of 5:0: it is a symbolic link, and a directory keeps its place",
		},
	}, {
		name: "nothing is removed by a dot's name",
		items: func(p string) []item {
			return []item{dir(p + "d"), dir(p + "d/e"), file(p+"d/e/.", "x"), {name: p + "d/e/..", mode: 0o644}, link(p+"d/e/.", "y"), {name: p + "d/e/./", mode: 0o40700}}
		},
		files: []string{"d 040755", "d/e 040700"},
		hidden: []string{
			"d/e/. 100644" + has("x") + ": a directory stands at its path",
			"d/e/.. 000644: it is of no type that the kernel makes, but can remove what stood at its path",
			"d/e/. 120777 -> y: it is a symbolic link, and a directory keeps its place",
			"d/e 040755: a later entry replaces it",
		},
	}, {
		name:  "an entry without a type removes",
		items: func(p string) []item { return []item{file(p+"a", "x"), {name: p + "a", mode: 0o644}} },
		hidden: []string{"a 100644" + has("x") + ": a later entry replaces it",
			"a 000644: it is of no type that the kernel makes, but can remove what stood at its path"},
	}, {
		name: "a slash at the end means a directory",
		items: func(p string) []item {
			return []item{file(p+"a/", "x"), dir(p + "d/"), dir(p + "e"), link(p+"l", "e"), {name: p + "l/", mode: 0o40700}, link(p+"m", "none"), dir(p + "m/"),
				link(p+"n/", "e"), {name: p + "o/", mode: 0o10644}, file(p+"f", "y"), dir(p + "f/")}
		},
		files: []string{"d 040755", "e 040700", "f 100644" + has("y"), "l 120777 -> e", "m 120777 -> none"},
		hidden: []string{
			"a/ 100644" + has("x") + ": a directory stands at its path",
			"e 040755: a later entry replaces it",
			"m/ 040755: a symbolic link that leads nowhere stands at its path",
			"n/ 120777 -> e: it is a symbolic link with a slash at its end",
			"o/ 010644: it is a device with a slash at its end",
			"f/ 040755: it has a slash at its end and a file stands at its path",
		},
	}, {
		name:  "names end at a zero",
		items: func(p string) []item { return []item{file(p+"a\x00.bak", "x"), link(p+"l", "a\x00b")} },
		files: []string{"a 100644" + has("x"), "l 120777 -> a"},
	}, {
		name: "an empty link leads to its own directory",
		items: func(p string) []item {
			return []item{dir(p + "d"), link(p+"d/l", "\x00a"), file(p+"d/l/a", "x"), dir(p + "d/l//e"), file(p+"d/l/../b", "y")}
		},
		files: []string{"b 100644" + has("y"), "d 040755", "d/a 100644" + has("x"), "d/e 040755", "d/l 120777 -> "},
	}, {
		name: "long names and long links",
		items: func(p string) []item {
			return []item{file(p+strings.Repeat("a", 255), "x"), file(p+strings.Repeat("b", 256), "y"),
				link(p+"l", strings.Repeat("c", 4095)), link(p+"m", strings.Repeat("d", 4096))}
		},
		files: []string{strings.Repeat("a", 255) + " 100644" + has("x"), "l 120777 -> " + strings.Repeat("c", 4095)},
		hidden: []string{
			strings.Repeat("b", 256) + " 100644" + has("y") + ": a part of its path is longer than 255 bytes",
			"m 120777 -> " + strings.Repeat("d", 4096) + ": it is a symbolic link to a path of 4096 bytes",
		},
	}, {
		name: "hard links share what the last one brings",
		items: func(p string) []item {
			return []item{hard(p+"a", "", 1), hard(p+"b", "", 1), hard(p+"c", "body", 1), hard(p+"d", "", 2)}
		},
		files: []string{"a 100644" + has("body"), "b 100644" + has("body"), "c 100644" + has("body"), "d 100644" + has("")},
	}, {
		name: "hard links with contents in each",
		items: func(p string) []item {
			return []item{hard(p+"a", "one", 1), hard(p+"b", "two", 1), hard(p+"c", "two", 1)}
		},
		files:  []string{"a 100644" + has("two"), "b 100644" + has("two"), "c 100644" + has("two")},
		hidden: []string{"b 100644" + has("one") + ": a later entry replaces it"},
	}, {
		name: "a file is written through its hard links",
		items: func(p string) []item {
			return []item{hard(p+"a", "good", 1), hard(p+"b", "", 1), {name: p + "a", mode: 0o100755, body: "evil"}}
		},
		files:  []string{"a 100755" + has("evil"), "b 100755" + has("evil")},
		hidden: []string{"a 100644" + has("good") + ": a later entry replaces it"},
	}, {
		name:  "a hard link to itself is gone",
		items: func(p string) []item { return []item{hard(p+"a", "x", 1), hard(p+"a", "y", 1), hard(p+"b", "z", 1)} },
		hidden: []string{
			"a 100644" + has("x") + ": a later entry replaces it",
			"a 100644" + has("y") + ": it is a hard link to a file that is not there",
			"b 100644" + has("z") + ": it is a hard link to a file that is not there",
		},
	}, {
		name:  "a trailer ends hard links",
		items: func(p string) []item { return []item{hard(p+"a", "x", 1), trailer, hard(p+"b", "y", 1)} },
		files: []string{"a 100644" + has("x"), "b 100644" + has("y")},
	}, {
		name: "a hard link is one of a name, not of a file",
		items: func(p string) []item {
			return []item{hard(p+"a", "x", 1), {name: p + "a", mode: 0o644}, file(p+"a", "y"), hard(p+"b", "", 1)}
		},
		files: []string{"a 100644" + has("y"), "b 100644" + has("y")},
		hidden: []string{
			"a 100644" + has("x") + ": a later entry replaces it",
			"a 000644: it is of no type that the kernel makes, but can remove what stood at its path",
		},
	}, {
		name: "a hard link to a symbolic link is written through",
		items: func(p string) []item {
			return []item{file(p+"init", "good"), hard(p+"a", "", 1), link(p+"a", "init"), hard(p+"b", "evil", 1), link(p+"c", "none"), hard(p+"d", "", 2), link(p+"d", "made"), hard(p+"e", "evil", 2)}
		},
		files: []string{"a 120777 -> init", "b 120777 -> init", "c 120777 -> none", "d 120777 -> made", "e 120777 -> made", "init 100644" + has("evil"), "made 100644" + has("evil")},
		hidden: []string{
			"a 100644" + has("") + ": a later entry replaces it",
			"init 100644" + has("good") + ": a later entry replaces it",
			"d 100644" + has("") + ": a later entry replaces it",
		},
	}, {
		name: "devices",
		items: func(p string) []item {
			return []item{{name: p + "c", mode: 0o20600, major: 5, minor: 1}, {name: p + "b", mode: 0o60640, major: 8, minor: 1, gid: 6},
				{name: p + "f", mode: 0o10600}, {name: p + "s", mode: 0o140600, major: 3},
				{name: p + "c", mode: 0o20666, major: 1, minor: 8}, {name: p + "wide", mode: 0o20600, major: 0x1002, minor: 0x300004},
				{name: p + "h", mode: 0o60600, major: 8, minor: 2, ino: 4, links: 2}, {name: p + "i", mode: 0o60666, major: 8, minor: 3, ino: 4, links: 2},
				dir(p + "d"), file(p+"d/x", ""), {name: p + "d", mode: 0o20600, major: 1}}
		},
		files: []string{"b 060640 8:1 of 0:6", "c 020666 5:1", "d 040600", "d/x 100644" + has(""), "f 010600", "h 060600 8:2", "i 060600 8:2", "s 140600", "wide 020600 3:4"},
		hidden: []string{
			"c 020600 5:1: a later entry replaces it",
			"c 020666 1:8: something else keeps its place",
			"d 040755: a later entry replaces it",
			"d 020600 1:0: something else keeps its place",
		},
	}}
}

func TestWhatTheKernelLeaves(t *testing.T) {
	for _, s := range scenarios() {
		t.Run(s.name, func(t *testing.T) {
			const p = "P/"
			tree := mustRead(t, newc(append([]item{dir("P")}, s.items(p)...)...))
			files, hidden := show(tree)
			want := []string{"P 040755"}
			for _, f := range s.files {
				want = append(want, p+f)
			}
			if d := cmp.Diff(want, files); d != "" {
				t.Errorf("files: %s", d)
			}
			for i, h := range hidden {
				hidden[i] = strings.ReplaceAll(h, p, "")
			}
			if d := cmp.Diff(s.hidden, hidden); d != "" {
				t.Errorf("hidden: %s", d)
			}
		})
	}
}

// The kernel's built-in archive makes a few things, which are no part of the image.
func TestWhatTheKernelBringsIsNotListed(t *testing.T) {
	tree := mustRead(t, newc(item{name: "dev/null", mode: 0o20666, major: 1, minor: 3}, file("root/a", "x"),
		item{name: "dev/console", mode: 0o20666, major: 4, minor: 4}))
	files, hidden := show(tree)
	want := []string{"dev/console 020666 5:1", "dev/null 020666 1:3", "root/a 100644" + has("x")}
	if d := cmp.Diff(want, files); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"dev/console 020666 4:4: something else keeps its place"}, hidden); d != "" {
		t.Error(d)
	}
}

func TestTheRootIsAFileToo(t *testing.T) {
	files, _ := show(mustRead(t, newc(item{name: ".", mode: 0o40700, uid: 3}, item{name: "/", mode: 0o40711}, file(".", "x"), item{name: ".", mode: 0o644})))
	if d := cmp.Diff([]string{". 040711"}, files); d != "" {
		t.Error(d)
	}
}

func TestALinkMayHaveTheTrailersName(t *testing.T) {
	tree := mustRead(t, newc(hard("a", "x", 1), link("TRAILER!!!", "y"), hard("b", "", 1)))
	files, _ := show(tree)
	if d := cmp.Diff([]string{"TRAILER!!! 120777 -> y", "a 100644" + has("x"), "b 100644" + has("x")}, files); d != "" {
		t.Error(d)
	}
	if len(tree.Segments) != 1 {
		t.Errorf("%d segments; want one, as there is no trailer", len(tree.Segments))
	}
}
