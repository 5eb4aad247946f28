package xenlog

import (
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/internal/xenstore"
)

// Write writes a guest's log below the backend's directory of its vTPM, in the place of one that is
// there. That guest may read it, and nobody but the directory's owner may write it. Who removes
// the device removes it with the directory. An empty log is none.
func Write(tx *xenstore.Tx, backend string, guest uint32, log []byte) error {
	if len(log) > most*piece {
		return fmt.Errorf("the guest's log has %d bytes; xenstore is given %d at most", len(log), most*piece)
	}
	dir := backend + "/" + folder
	if err := tx.Remove(dir); err != nil || len(log) == 0 {
		return err
	}
	has, err := tx.Permissions(backend)
	if err != nil {
		return err
	}
	if len(has) == 0 || len(has[0]) < 2 {
		return fmt.Errorf("xenstore does not say whose %s is", backend)
	}
	// The first names the owner, and what everybody else may: nothing.
	perms := []string{"n" + has[0][1:], fmt.Sprint("r", guest)}
	if err := errors.Join(tx.Mkdir(dir), tx.SetPermissions(dir, perms...)); err != nil {
		return err
	}
	for i := 0; len(log) > 0; i++ {
		n := min(len(log), piece)
		node := fmt.Sprintf("%s/%02d", dir, i)
		if err := errors.Join(tx.Write(node, base64.StdEncoding.EncodeToString(log[:n])), tx.SetPermissions(node, perms...)); err != nil {
			return err
		}
		log = log[n:]
	}
	return nil
}
