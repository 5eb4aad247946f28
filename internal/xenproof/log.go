package xenproof

import (
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm/measure"
)

// log has a guest read the log of its start, and hold it against its own PCRs. It has to be the one that
// is computed here, byte for byte.
func (d *Dom0) log(ctx context.Context, g *guest, l *measure.Launch) error {
	said, err := d.ask(ctx, g, "", "log")
	if err != nil {
		return err
	}
	v, banks := tpm.V20, algs
	if g.family == "1.2" {
		v, banks = tpm.V12, []tpm.Alg{tpm.SHA1}
	}
	log, err := l.Log(v, banks)
	if err != nil {
		return err
	}
	b, err := log.AppendTo(nil)
	if err != nil {
		return err
	}
	if want := fmt.Sprintf("%x", sha256.Sum256(b)); said != want {
		return fmt.Errorf("the log that %s reads has the digest %q, and has to have %s: %w", g.name, said, want, errNotAsItShould)
	}
	return nil
}
