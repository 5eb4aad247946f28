package plymouth

import (
	"bytes"
	"testing"
)

// Only the one byte is a yes.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{"\x06", "\x15", "\x05", "\x02\x03\x00\x00\x00yes", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		err := readAnswer(bytes.NewReader(b))
		if yes := len(b) > 0 && b[0] == ack; yes != (err == nil) {
			t.Errorf("%q is answered by %v", b, err)
		}
	})
}
