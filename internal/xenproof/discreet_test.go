package xenproof_test

import (
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/antievilmaid/aem/internal/xenproof"
)

// A secret that shows anywhere but where it belongs is found, and so is a place at which nobody looked.
func TestASecretThatShowsIsFound(t *testing.T) {
	who, secret, sentence := xenproof.Who()+"\n", xenproof.TheSecret, xenproof.Sentence
	consoles := who + "\x1b[1m" + sentence + "\x1b[0m\r\n"
	for _, c := range []struct {
		name                     string
		consoles, xenstore, disk string
		good                     bool
	}{
		{"as it has to be", consoles, who, who, true},
		{"the sentence twice", consoles + sentence, who, who, false},
		{"no sentence", who, who, who, false},
		{"a guest's secret on a console", consoles + "open: " + secret, who, who, false},
		{"in base 16", consoles + fmt.Sprintf("%x", secret), who, who, false},
		{"in base 16, large", consoles + fmt.Sprintf("%X", secret), who, who, false},
		{"in base 64", consoles + base64.StdEncoding.EncodeToString([]byte(secret+"\n")), who, who, false},
		{"a guest's secret in xenstore", consoles, who + secret, who, false},
		{"the sentence in xenstore", consoles, who + sentence, who, false},
		{"a guest's secret on the disk", consoles, who, "\x00" + secret + "\x00" + who, false},
		{"the sentence on the disk", consoles, who, who + sentence, false},
		{"no consoles", sentence, who, who, false},
		{"no xenstore", consoles, "", who, false},
		{"no disk", consoles, who, "", false},
	} {
		if err := xenproof.Discreet(t.TempDir(), c.consoles, c.xenstore, c.disk); (err == nil) != c.good {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
