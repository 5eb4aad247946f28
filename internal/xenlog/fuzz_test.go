package xenlog_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/xenlog"
)

// Whatever stands in the nodes, what is read of them is what they say, or nothing.
func FuzzLogInXenstore(f *testing.F) {
	f.Add("00", "QUJD", "")
	f.Add("00", "QUJD", "QUI=")
	f.Add("00", "QUI=", "QUJD")
	f.Add("0", "QUJD", "%")
	f.Fuzz(func(t *testing.T, name, first, second string) {
		dom0, guest, _ := device(t)
		log := backend + "/log/"
		if strings.ContainsAny(name, "/\x00") || dom0.Write(log+name, first) != nil || dom0.Write(log+"01", second) != nil {
			return
		}
		b, err := xenlog.Read(guest)
		if err != nil {
			return
		}
		want := ""
		for _, text := range []string{first, second} {
			d, err := base64.StdEncoding.DecodeString(text)
			if err != nil || name != "00" {
				t.Fatalf("%q, %q and %q were read as %x", name, first, second, b)
			}
			want += string(d)
		}
		if string(b) != want {
			t.Errorf("%q and %q were read as %x", first, second, b)
		}
	})
}
