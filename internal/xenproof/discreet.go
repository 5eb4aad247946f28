package xenproof

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"github.com/antievilmaid/aem/internal/xenbed/order"
)

// noteXenstore keeps all that stands in xenstore now, where each domain can look at its own part and dom0 at all.
func (d *Dom0) noteXenstore(ctx context.Context) error {
	r, err := d.do(ctx, order.Order{Args: []string{"xenstore-ls", "-f"}, Quiet: true})
	if err == nil && r.Exit != 0 {
		err = fmt.Errorf("xenstore-ls: exit %d: %s", r.Exit, r.Out)
	}
	d.m.xenstore.WriteString(r.Out)
	return err
}

// discreet looks for what was sealed, where the story left words: on the consoles, on which dom0, vtpmd, xl, drtmsim and all
// guests speak, in xenstore, and on the disk with all that was ever deleted from it. The one thing that shows is
// the sentence, once, on the screen on which the machine proves itself.
func (m *Machine) discreet() error {
	disk, err := os.ReadFile(m.path("disk"))
	if err != nil {
		return err
	}
	for _, place := range []struct {
		name      string
		words     []byte
		sentences int
	}{{"the consoles", m.log.Bytes(), 1}, {"xenstore", m.xenstore.Bytes(), 0}, {"the disk", disk, 0}} {
		// Of the guest, each tells: else nobody looked at the right thing.
		if who := m.guest("pvh").uuid.String(); !bytes.Contains(place.words, []byte(who)) {
			return fmt.Errorf("%s: nothing is said there of the vTPM %s: %w", place.name, who, errNotAsItShould)
		}
		for secret, want := range map[string]int{theSecret: 0, sentence: place.sentences} {
			if n := count(place.words, secret); n != want {
				return fmt.Errorf("%s: %q stands there %d times, and has to %d times: %w", place.name, secret, n, want, errNotAsItShould)
			}
		}
	}
	return nil
}

// count counts a secret in the forms in which a log could show it.
func count(b []byte, secret string) (n int) {
	inHex := hex.EncodeToString([]byte(secret))
	whole := secret[:len(secret)/3*3] // the rest of base64 hangs on what follows
	for _, form := range []string{secret, inHex, strings.ToUpper(inHex), base64.StdEncoding.EncodeToString([]byte(whole))} {
		n += bytes.Count(b, []byte(form))
	}
	return n
}
