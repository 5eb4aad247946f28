package xen

import (
	"errors"
	"os"
	"strings"

	"github.com/antievilmaid/aem/internal/xenlog"
	"github.com/antievilmaid/aem/internal/xenstore"
)

// show writes what the guest may read of its vTPM's start, before the frontend is told that we are there. It is
// written again by each manager that takes the guest over: what the last one wrote may be cut off. A
// guest whose log can't be written gets its vTPM all the same.
func (d *device) show(a attachment) {
	log, err := a.session.Log()
	if err == nil {
		err = d.b.Store.Transaction(func(tx *xenstore.Tx) error {
			// To write below a directory that the toolstack has removed would make it anew.
			if u, err := tx.Read(d.at.backend() + "/uuid"); err != nil || !strings.EqualFold(u, a.guest.UUID.String()) {
				return err
			}
			return xenlog.Write(tx, d.at.backend(), d.at.domain, log)
		})
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		d.complain("the guest can't read the log of its start", err)
	}
}
