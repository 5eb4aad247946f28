package unpack

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
)

// rootfs is a model of the file system that the kernel unpacks into. It knows
// what an attacker could use to make a listing differ from the machine: that
// "a/../init" names init only if a is there, that "bin/sh" is usr/bin/sh if bin
// is a symbolic link, that a file is written through all its hard links.
type rootfs struct {
	tree      *Tree
	root      *node
	links     map[linkKey]string // the kernel's memory of hard links: the first name
	pathBytes int
}

// node is a name in a directory. The root has none.
type node struct {
	parent   *node
	name     string
	pathSize int
	children map[string]*node // of a directory
	*inode
	segment int
	named   bool // an entry of the image named it; otherwise the kernel made it
}

// inode is what all names of a file have in common.
type inode struct {
	mode, uid, gid uint32
	size           int64
	sum            [32]byte
	target         string
	major, minor   uint32
}

func (i *inode) isType(t uint32) bool { return i.mode&typeMask == t }

type linkKey struct{ ino, major, minor, fileType uint32 }

// maxPathBytes bounds the paths of all files together. Through symbolic links a
// short entry can name a long path.
const maxPathBytes = 1 << 26

// newRootfs is the file system before the image: what the kernel's built-in
// archive makes where none was configured (usr/default_cpio_list).
func newRootfs(tree *Tree) *rootfs {
	fs := &rootfs{tree: tree, links: map[linkKey]string{}}
	fs.root = &node{inode: &inode{mode: typeDir | 0o755}, children: map[string]*node{}}
	add := func(parent *node, name string, i inode) *node {
		n := &node{parent: parent, name: name, pathSize: len(name), inode: &i}
		if i.isType(typeDir) {
			n.children = map[string]*node{}
		}
		parent.children[name] = n
		return n
	}
	dev := add(fs.root, "dev", inode{mode: typeDir | 0o755})
	add(dev, "console", inode{mode: typeChar | 0o600, major: 5, minor: 1})
	add(fs.root, "root", inode{mode: typeDir | 0o700})
	return fs
}

// apply does what the kernel does with an entry (do_name, do_copy and do_symlink
// in init/initramfs.c), step by step. An error is one at which the kernel stops,
// or a limit.
func (fs *rootfs) apply(e entry, segment int) (trailer bool, err error) {
	if e.name == "TRAILER!!!" && !e.isType(typeLink) {
		clear(fs.links)
		return true, nil
	}
	var lost string
	switch e.mode & typeMask {
	case typeFile:
		lost, err = fs.file(&e, segment)
	case typeLink:
		lost, err = fs.symlink(&e, segment)
	case typeDir:
		lost, err = fs.directory(&e, segment)
	case typeBlock, typeChar, typeFIFO, typeSocket:
		lost, err = fs.device(&e, segment)
	default:
		fs.makeWay(e.name, e.mode)
		lost = "it is of no type that the kernel makes, but can remove what stood at its path"
	}
	if lost != "" {
		fs.tree.Hidden = append(fs.tree.Hidden, Hidden{File: e.file(segment), Why: lost})
	} else if err == nil && e.badSum {
		err = fmt.Errorf("the contents of %q don't have the checksum that the archive gives", e.name)
	}
	return false, err
}

func (fs *rootfs) file(e *entry, segment int) (lost string, err error) {
	fs.makeWay(e.name, typeFile)
	linked, lost, err := fs.link(e, segment)
	if lost != "" || err != nil {
		return lost, err
	}
	if linked != nil { // the new name covers contents only if there were some
		linked.named = linked.size > 0
		defer func() { linked.named = true }()
	}
	// The kernel opens the name, and opening follows a link even if it is the last part of the path.
	w, lost := fs.walk(e.name, true)
	switch {
	case lost != "":
		return lost, nil
	case w.at == nil && w.slash, w.at != nil && w.at.isType(typeDir):
		return "a directory stands at its path", nil
	case w.at == nil:
		if w.at, err = fs.create(w, inode{mode: typeFile, sum: sha256.Sum256(nil)}); err != nil {
			return "", err
		}
	case !w.at.isType(typeFile):
		lost = "a device stands at its path"
	}
	fs.change(w.at, segment, func(i *inode) {
		i.own(e)
		i.mode = i.mode&typeMask | e.mode&permMask
		if lost == "" && (len(e.body) > 0 || linked == nil) {
			i.size, i.sum = int64(len(e.body)), sha256.Sum256(e.body)
		}
	})
	return lost, nil
}

// link makes a hard link if an earlier entry of the archive is the same file. The
// contents stand at the last of such entries.
func (fs *rootfs) link(e *entry, segment int) (linked *node, lost string, err error) {
	if e.links < 2 {
		return nil, "", nil
	}
	key := linkKey{e.ino, e.devMajor, e.devMinor, e.mode & typeMask}
	first, ok := fs.links[key]
	if !ok {
		fs.links[key] = e.name
		return nil, "", nil
	}
	fs.makeWay(e.name, 0)
	from, lost := fs.walk(first, false)
	if lost != "" || from.at == nil || from.at.isType(typeDir) {
		return nil, "it is a hard link to a file that is not there", nil
	}
	to, lost := fs.walk(e.name, false)
	switch {
	case lost != "":
		return nil, lost, nil
	case to.at != nil || to.slash:
		return nil, "it is a hard link at a path that is taken", nil
	}
	n, err := fs.create(to, inode{})
	if err != nil {
		return nil, "", err
	}
	n.inode, n.segment, n.named = from.at.inode, segment, true
	return n, "", nil
}

func (fs *rootfs) symlink(e *entry, segment int) (lost string, err error) {
	fs.makeWay(e.name, 0)
	target := cString(e.body)
	w, lost := fs.walk(e.name, false)
	switch {
	case lost != "":
		return lost, nil
	case w.at != nil:
		fs.change(w.at, segment, func(i *inode) { i.own(e) })
		return "it is a symbolic link, and a directory keeps its place", nil
	case w.slash:
		return "it is a symbolic link with a slash at its end", nil
	case len(target) >= MaxPath:
		return fmt.Sprintf("it is a symbolic link to a path of %d bytes", len(target)), nil
	}
	n, err := fs.create(w, inode{mode: typeLink | 0o777, target: target, size: int64(len(target))})
	if err != nil {
		return "", err
	}
	fs.change(n, segment, func(i *inode) { i.own(e) })
	return "", nil
}

func (fs *rootfs) directory(e *entry, segment int) (lost string, err error) {
	fs.makeWay(e.name, typeDir)
	w, lost := fs.walk(e.name, true)
	if lost != "" {
		return lost, nil
	}
	switch {
	case w.at == nil && w.followed:
		return "a symbolic link that leads nowhere stands at its path", nil
	case w.at == nil:
		if w.at, err = fs.create(w, inode{mode: typeDir}); err != nil {
			return "", err
		}
	}
	fs.change(w.at, segment, func(i *inode) {
		i.own(e)
		i.mode = i.mode&typeMask | e.mode&permMask
	})
	return "", nil
}

func (fs *rootfs) device(e *entry, segment int) (lost string, err error) {
	fs.makeWay(e.name, e.mode)
	linked, lost, err := fs.link(e, segment)
	if linked != nil || lost != "" || err != nil {
		return lost, err
	}
	w, lost := fs.walk(e.name, false)
	if lost != "" {
		return lost, nil
	}
	made := inode{mode: e.mode & typeMask}
	if e.isType(typeBlock) || e.isType(typeChar) {
		made.major, made.minor = e.major, e.minor
	}
	switch {
	case w.at == nil && w.slash:
		return "it is a device with a slash at its end", nil
	case w.at == nil:
		if w.at, err = fs.create(w, made); err != nil {
			return "", err
		}
	case w.at.major != made.major || w.at.minor != made.minor || !w.at.isType(e.mode&typeMask):
		lost = "something else keeps its place"
	}
	fs.change(w.at, segment, func(i *inode) {
		i.own(e)
		i.mode = i.mode&typeMask | e.mode&permMask
	})
	return lost, nil
}

// makeWay is the kernel's clean_path: it removes what stands at a path if that is
// of another type than what comes. A directory goes only if it is empty.
func (fs *rootfs) makeWay(name string, mode uint32) {
	w, lost := fs.walk(name, false)
	switch {
	case lost != "" || w.at == nil || w.at.isType(mode&typeMask):
	case w.at.isType(typeDir) && (len(w.at.children) > 0 || w.dot):
	default:
		if w.at.named {
			fs.hide(w.at, *w.at.inode)
		}
		fs.pathBytes -= w.at.pathSize
		delete(w.at.parent.children, w.at.name)
	}
}

// change changes a file through one of its names. What an earlier entry left
// under that name goes to the hidden ones, unless it stays the same.
func (fs *rootfs) change(n *node, segment int, how func(*inode)) {
	before := *n.inode
	how(n.inode)
	if n.named && before != *n.inode {
		fs.hide(n, before)
	}
	n.segment, n.named = segment, true
}

func (fs *rootfs) hide(n *node, before inode) {
	fs.tree.Hidden = append(fs.tree.Hidden, Hidden{File: listing(n.path(), before, n.segment), Why: "a later entry replaces it"})
}

// own is chown(2): an ID with all bits set leaves the owner as it is.
func (i *inode) own(e *entry) {
	const keep = 1<<32 - 1
	if e.uid != keep {
		i.uid = e.uid
	}
	if e.gid != keep {
		i.gid = e.gid
	}
}

// create makes a node where walk found none.
func (fs *rootfs) create(w place, i inode) (*node, error) {
	size := w.dir.pathSize + 1 + len(w.name)
	if w.dir == fs.root {
		size--
	}
	fs.pathBytes += size
	if size > MaxPath || fs.pathBytes > maxPathBytes {
		return nil, fmt.Errorf("%w: a path has %d bytes, all paths %d", ErrTooLarge, size, fs.pathBytes)
	}
	n := &node{parent: w.dir, name: w.name, pathSize: size, inode: &i}
	if i.isType(typeDir) {
		n.children = map[string]*node{}
	}
	w.dir.children[w.name] = n
	return n, nil
}

// path is a node's path from the root.
func (n *node) path() string {
	if n.parent == nil {
		return "."
	}
	var parts []string
	for ; n.parent != nil; n = n.parent {
		parts = append(parts, n.name)
	}
	slices.Reverse(parts)
	return strings.Join(parts, "/")
}

func listing(path string, i inode, segment int) File {
	return File{
		Path: path, Mode: i.mode, UID: i.uid, GID: i.gid, Size: i.size, Sum: i.sum,
		Target: i.target, Major: i.major, Minor: i.minor, Segment: segment,
	}
}

// files lists what the image named.
func (fs *rootfs) files() []File {
	var list []File
	var visit func(n *node)
	visit = func(n *node) {
		if n.named {
			list = append(list, listing(n.path(), *n.inode, n.segment))
		}
		for _, child := range n.children {
			visit(child)
		}
	}
	visit(fs.root)
	slices.SortStableFunc(list, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	return list
}
