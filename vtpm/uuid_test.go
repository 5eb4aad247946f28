package vtpm_test

import (
	"testing"

	"github.com/antievilmaid/aem/vtpm"
)

func TestUUIDText(t *testing.T) {
	const text = "0123abcd-4567-89ab-cdef-0123456789ab"
	u, err := vtpm.ParseUUID("0123ABCD-4567-89AB-CDEF-0123456789AB")
	if err != nil || u.String() != text {
		t.Fatalf("%v, %v; want %s", u, err, text)
	}
	for _, bad := range []string{"", text[1:], text + "0", "0123abcd04567-89ab-cdef-0123456789ab", "0123abcg-4567-89ab-cdef-0123456789ab"} {
		if u, err := vtpm.ParseUUID(bad); err == nil {
			t.Errorf("%q was read as %v", bad, u)
		}
	}
}

func TestNewUUIDIsOne(t *testing.T) {
	a, b := vtpm.NewUUID(), vtpm.NewUUID()
	if back, err := vtpm.ParseUUID(a.String()); err != nil || back != a || a == b || a.String()[14] != '4' {
		t.Fatalf("%v and %v: %v", a, b, err)
	}
}
