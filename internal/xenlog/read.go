package xenlog

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/antievilmaid/aem/internal/xenstore"
)

// devices are the guest's vTPMs, in its own directory.
const devices = "device/vtpm"

// Here reports whether this system is a domain with a vTPM of Xen's. It asks the kernel, which has found
// the vTPM in xenstore: before dom0 has a xenstore, nobody would answer.
func Here() bool {
	list, _ := filepath.Glob("/sys/bus/xen/devices/vtpm-*")
	return len(list) > 0
}

// Read reads the log of this domain's start: that of its first vTPM. The error wraps os.ErrNotExist
// where there is none.
func Read(c *xenstore.Conn) (log []byte, err error) {
	// In a transaction, so that nobody writes another one meanwhile.
	err = c.Transaction(func(tx *xenstore.Tx) error {
		log, err = read(tx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the log that the host's vtpmd wrote: %w", err)
	}
	return log, nil
}

func read(tx *xenstore.Tx) ([]byte, error) {
	list, err := tx.Directory(devices)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("this domain has no vTPM: %w", os.ErrNotExist)
	}
	backend, err := tx.Read(devices + "/" + slices.Min(list) + "/backend")
	if err != nil {
		return nil, err
	}
	nodes, err := tx.Directory(backend + "/" + folder)
	if err != nil {
		return nil, err
	}
	slices.Sort(nodes) // of more than there can be, the names are not in their numbers' order
	var log []byte
	for i, name := range nodes {
		if name != fmt.Sprintf("%02d", i) {
			return nil, fmt.Errorf("a piece of the log is missing in xenstore: after %d comes %.20q", i, name)
		}
		text, err := tx.Read(backend + "/" + folder + "/" + name)
		if err != nil {
			return nil, err
		}
		if log, err = base64.StdEncoding.Strict().AppendDecode(log, []byte(text)); err != nil {
			return nil, fmt.Errorf("piece %s of the log in xenstore is not base64: %w", name, err)
		}
	}
	return log, nil
}
