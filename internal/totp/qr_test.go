package totp_test

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/color"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rsc.io/qr"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/internal/totp"
)

// address is as long as is asked for, and like a real one.
func address(n int) []byte {
	const front = "otpauth://totp/AEM:laptop?secret="
	return []byte((front + strings.Repeat("GEZDGNBVGY3TQOJQ", 8))[:n])
}

func code(t *testing.T, uri []byte) *totp.QR {
	t.Helper()
	q, err := totp.NewQR(uri)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func TestTheCodeIsTheLibrarys(t *testing.T) {
	for n := 20; n <= totp.MaxURI; n++ {
		q := code(t, address(n))
		want, err := qr.Encode(string(address(n)), qr.L)
		if err != nil {
			t.Fatal(err)
		}
		if q.Size() != want.Size {
			t.Errorf("%d bytes: %d modules; want %d", n, q.Size(), want.Size)
			continue
		}
		for i := range want.Size * want.Size {
			if x, y := i%want.Size, i/want.Size; q.Dark(x, y) != want.Black(x, y) {
				t.Errorf("%d bytes: the module at %d, %d is not the library's", n, x, y)
				break
			}
		}
	}
}

func TestTooLongAnAddressIsRefused(t *testing.T) {
	if _, err := totp.NewQR(address(totp.MaxURI + 1)); !errors.Is(err, totp.ErrTooLong) {
		t.Errorf("one byte too many: %v", err)
	}
}

func TestAWipedCodeIsBlank(t *testing.T) {
	q := code(t, address(70))
	q.Wipe()
	for i := range q.Size() * q.Size() {
		if q.Dark(i%q.Size(), i/q.Size()) {
			t.Fatalf("the module at %d, %d is left", i%q.Size(), i/q.Size())
		}
	}
}

// Every code that there is fits on the Linux console, with two lines left.
func TestEveryCodeFitsOnATextScreen(t *testing.T) {
	for n := 20; n <= totp.MaxURI; n++ {
		drawing, err := code(t, address(n)).Draw(totp.Drawing{Columns: 80, Rows: 23})
		if err != nil {
			t.Errorf("%d bytes: %v", n, err)
			continue
		}
		lines := strings.SplitAfter(string(drawing), "\n")
		if lines[len(lines)-1] != "" || len(lines)-1 > 23 {
			t.Errorf("%d bytes: %d lines, of which the last is %q", n, len(lines)-1, lines[len(lines)-1])
		}
		for _, l := range lines[:len(lines)-1] {
			if w, first := len([]rune(l)), len([]rune(lines[0])); w != first || w > 81 {
				t.Errorf("%d bytes: a line of %d columns after one of %d", n, w, first)
			}
		}
	}
}

func TestNumberSignsNeedMoreThanATextScreen(t *testing.T) {
	// The shortest address that carries a key: 16 bytes, and labels of a letter.
	q := code(t, address(15+3+8+26+9))
	if _, err := q.Draw(totp.Drawing{Columns: 80, Rows: 25, Hashes: true}); !errors.Is(err, totp.ErrScreen) {
		t.Errorf("on 80 by 25: %v", err)
	}
	drawing, err := q.Draw(totp.Drawing{Columns: 80, Rows: 48, Hashes: true})
	if err != nil {
		t.Fatal(err)
	}
	if i := bytes.IndexFunc(drawing, func(r rune) bool { return r != '#' && r != ' ' && r != '\n' }); i >= 0 {
		t.Errorf("the drawing has a %q", drawing[i])
	}
	for _, d := range []totp.Drawing{{}, {Columns: 80}, {Rows: 80}, {Columns: q.Size() + 3, Rows: 80}} {
		if _, err := q.Draw(d); !errors.Is(err, totp.ErrScreen) {
			t.Errorf("on %d by %d: %v", d.Columns, d.Rows, err)
		}
	}
}

// ink is what the characters of a drawing cover of the upper and lower half of their cell.
var ink = map[rune][2]bool{' ': {}, '▀': {true, false}, '▄': {false, true}, '█': {true, true}, '#': {true, true}}

// photograph is what a camera sees of a drawing in the middle of a terminal.
func photograph(t *testing.T, drawing []byte, d totp.Drawing) image.Image {
	t.Helper()
	const module, border = 6, 60
	width, height := module, module
	if d.Hashes {
		width, height = module/2, module/2 // a cell is half a module wide; its halves are half a module high
	}
	lines := strings.Split(strings.TrimSuffix(string(drawing), "\n"), "\n")
	m := image.NewGray(image.Rect(0, 0, len([]rune(lines[0]))*width+2*border, len(lines)*2*height+2*border))
	paper, pen := color.Gray{0}, color.Gray{255}
	if d.DarkInk {
		paper, pen = pen, paper
	}
	for i := range m.Pix {
		m.Pix[i] = paper.Y
	}
	for row, line := range lines {
		for column, r := range []rune(line) {
			halves, ok := ink[r]
			if !ok {
				t.Fatalf("the drawing has a %q", r)
			}
			for half, covered := range halves {
				for i := range width * height {
					if covered {
						m.SetGray(border+column*width+i%width, border+(2*row+half)*height+i/width, pen)
					}
				}
			}
		}
	}
	return m
}

// scan reads a picture as a phone would.
func scan(t *testing.T, m image.Image) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "screen.png")
	if err := testbed.SavePNG(path, m); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("zbarimg", "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", path).Output()
	if err != nil {
		return fmt.Sprintf("zbarimg: %v", err)
	}
	return strings.TrimSuffix(string(out), "\n")
}

func TestDrawingsAreReadBack(t *testing.T) {
	testbed.Need(t, "zbarimg")
	for _, n := range []int{50, 70, 78, 79, 106, 107, totp.MaxURI} {
		q := code(t, address(n))
		for _, d := range []totp.Drawing{
			{Columns: 80, Rows: 23},
			{Columns: q.Size() + 4, Rows: 80}, // the least quiet zone
			{Columns: 80, Rows: 23, DarkInk: true},
			{Columns: 120, Rows: 80, Hashes: true},
			{Columns: 120, Rows: 80, Hashes: true, DarkInk: true},
		} {
			drawing, err := q.Draw(d)
			if err != nil {
				t.Fatal(err)
			}
			if got := scan(t, photograph(t, drawing, d)); got != string(address(n)) {
				t.Errorf("%d bytes, %+v: read as %q\n%s", n, d, got, drawing)
			}
		}
	}
}
