package totp_test

import (
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/internal/totp"
)

// The largest code, on the text screen of a PC with the VGA's own font.
func TestAPhoneReadsTheLinuxConsole(t *testing.T) {
	testbed.Need(t, "zbarimg")
	drawing, err := code(t, address(totp.MaxURI)).Draw(totp.Drawing{Columns: 80, Rows: 23})
	if err != nil {
		t.Fatal(err)
	}
	image := &testbed.Image{Steps: []testbed.Step{testbed.RunOnTTY("/bin/poster", "/code")}}
	if err := image.Program("bin/poster", "./internal/totp/testdata/poster"); err != nil {
		t.Fatal(err)
	}
	image.File("code", 0o644, drawing)
	g := testbed.NewGuest(t, testbed.Config{Image: image, Append: "guest.console=tty1"})
	if _, err := g.ExpectScreen(t.Context(), `(?m)^posted`); err != nil {
		t.Fatal(err)
	}
	screen, err := g.StillScreen(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := scan(t, screen); got != string(address(totp.MaxURI)) {
		t.Errorf("the screen is read as %q", got)
	}
}
