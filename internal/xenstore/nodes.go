package xenstore

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Tx is a view of the tree: of the tree itself, or of a transaction's copy.
type Tx struct {
	conn *Conn
	id   uint32
}

func (c *Conn) plain() *Tx { return &Tx{c, 0} }

// Read is [Tx.Read] outside of a transaction, and so on with the others.
func (c *Conn) Read(path string) (string, error)          { return c.plain().Read(path) }
func (c *Conn) Directory(path string) ([]string, error)   { return c.plain().Directory(path) }
func (c *Conn) Write(path, value string) error            { return c.plain().Write(path, value) }
func (c *Conn) Mkdir(path string) error                   { return c.plain().Mkdir(path) }
func (c *Conn) Remove(path string) error                  { return c.plain().Remove(path) }
func (c *Conn) Permissions(path string) ([]string, error) { return c.plain().Permissions(path) }
func (c *Conn) SetPermissions(path string, perms ...string) error {
	return c.plain().SetPermissions(path, perms...)
}

// Read returns a node's value, which may hold any bytes.
func (t *Tx) Read(path string) (string, error) {
	b, err := t.conn.ask(t.id, OpRead, "read", path, "")
	return string(b), err
}

// Directory lists the names below a node.
func (t *Tx) Directory(path string) ([]string, error) {
	b, err := t.conn.ask(t.id, OpDirectory, "list", path, "")
	if errors.Is(err, unix.E2BIG) {
		return t.longDirectory(path)
	}
	return Strings(b), err
}

// longDirectory lists what does not fit into one message. Each part begins with the
// node's generation: where that changed on the way, the list is read anew.
func (t *Tx) longDirectory(path string) ([]string, error) {
	for {
		var list []byte
		var generation string
		for {
			b, err := t.conn.ask(t.id, OpDirectoryPart, "list", path, strconv.Itoa(len(list))+"\x00")
			if err != nil {
				return nil, err
			}
			i := 0
			for i < len(b) && b[i] != 0 {
				i++
			}
			if i == len(b) {
				return nil, fmt.Errorf("list %s in xenstore: a part of the list has no generation: %w", path, unix.EIO)
			}
			if len(list) > 0 && string(b[:i]) != generation {
				break
			}
			generation, list = string(b[:i]), append(list, b[i+1:]...)
			// The end is an empty name: two NUL bytes, or nothing at all.
			if part := b[i+1:]; len(part) == 0 || part[len(part)-1] == 0 && (len(part) == 1 || part[len(part)-2] == 0) {
				for len(list) > 0 && list[len(list)-1] == 0 {
					list = list[:len(list)-1]
				}
				return Strings(list), nil
			}
		}
	}
}

// Write sets a node's value, and makes the node and those above it as needed.
func (t *Tx) Write(path, value string) error {
	_, err := t.conn.ask(t.id, OpWrite, "write", path, value)
	return err
}

// Mkdir makes a node and those above it where they are not there.
func (t *Tx) Mkdir(path string) error {
	_, err := t.conn.ask(t.id, OpMkdir, "make", path, "")
	return err
}

// Remove removes a node with all below it. It is no error that there was none.
func (t *Tx) Remove(path string) error {
	_, err := t.conn.ask(t.id, OpRemove, "remove", path, "")
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// Permissions returns who may do what with a node: a letter (n, r, w, b for both) and a
// domain's number each. The first names the owner, and what everybody else may.
func (t *Tx) Permissions(path string) ([]string, error) {
	b, err := t.conn.ask(t.id, OpGetPerms, "read the permissions of", path, "")
	return Strings(b), err
}

// SetPermissions sets them, in the same form.
func (t *Tx) SetPermissions(path string, perms ...string) error {
	rest := ""
	for _, p := range perms {
		rest += p + "\x00"
	}
	_, err := t.conn.ask(t.id, OpSetPerms, "set the permissions of", path, rest)
	return err
}

// Transaction calls do with a copy of the tree and makes what it wrote the tree's, all or nothing.
// Where somebody else wrote in the meantime, it calls do again. What do returns ends it.
func (c *Conn) Transaction(do func(*Tx) error) error {
	for {
		b, err := c.transact(0, OpTransactionStart, "\x00")
		if err != nil {
			return fmt.Errorf("start a transaction in xenstore: %w", err)
		}
		id, err := strconv.ParseUint(strings.TrimSuffix(string(b), "\x00"), 10, 32)
		if err != nil {
			return fmt.Errorf("start a transaction in xenstore: %w", err)
		}
		if err := do(&Tx{c, uint32(id)}); err != nil {
			c.transact(uint32(id), OpTransactionEnd, "F\x00") // what it wrote is nothing
			return err
		}
		_, err = c.transact(uint32(id), OpTransactionEnd, "T\x00")
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EAGAIN) {
			return fmt.Errorf("end a transaction in xenstore: %w", err)
		}
	}
}
