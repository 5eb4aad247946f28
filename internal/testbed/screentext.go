package testbed

import (
	"context"
	"errors"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// The VGA text screen (IBM VGA Technical Reference, "Alphanumeric modes"): two
// bytes a character, the first of which is its glyph, in a window of 32 KiB.
const (
	textColumns, textRows = 80, 25
	cellWidth, cellHeight = 9, 16
	textWindow            = 0xb8000
	textWindowSize        = 32 << 10
)

// glyphs are the characters of the VGA's font (code page 437).
var glyphs = []rune(" ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼" +
	" !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~⌂" +
	"ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀" +
	"αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■ ")

// errNoText says that the text in the window is not the one on the screen.
var errNoText = errors.New("the guest's screen does not show text")

// ScreenText is what the VGA text screen shows now: 25 lines, without the
// spaces at their ends. It is read from the video memory, and where in that
// memory the screen begins, which changes as it scrolls, is found by comparing
// it with the picture: what is returned is what a person sees.
func (g *Guest) ScreenText() ([]string, error) {
	path := filepath.Join(g.dir, "screen.mem")
	_, err := g.QMP("pmemsave", map[string]any{"val": textWindow, "size": textWindowSize, "filename": path})
	if err != nil {
		return nil, err
	}
	memory, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the guest's video memory: %w", err)
	}
	picture, err := g.Screenshot()
	if err != nil {
		return nil, err
	}
	return textOn(picture, memory)
}

func textOn(picture *image.RGBA, memory []byte) ([]string, error) {
	if picture.Rect.Dx() != textColumns*cellWidth || picture.Rect.Dy() != textRows*cellHeight {
		return nil, errNoText
	}
	shapes := make([]shape, textColumns*textRows)
	for i := range shapes {
		shapes[i] = shapeAt(picture, i%textColumns, i/textColumns)
	}
	const line = 2 * textColumns
	for start := 0; start+textRows*line <= len(memory); start += line {
		screen := memory[start : start+textRows*line]
		if !agree(screen, shapes) {
			continue
		}
		var lines []string
		for row := range textRows {
			var b strings.Builder
			for column := range textColumns {
				b.WriteRune(glyphs[screen[row*line+2*column]])
			}
			lines = append(lines, strings.TrimRight(b.String(), " \u00a0"))
		}
		return lines, nil
	}
	return nil, errNoText
}

// shape is the picture of a character: a bit for each pixel that differs from
// the first one. So it is the same in every colour and when reversed.
type shape [cellWidth * cellHeight / 8]byte

func shapeAt(m *image.RGBA, column, row int) shape {
	var s shape
	left, top := column*cellWidth, row*cellHeight
	first := m.RGBAAt(left, top)
	for i := range cellWidth * cellHeight {
		if m.RGBAAt(left+i%cellWidth, top+i/cellWidth) != first {
			s[i/8] |= 1 << (i % 8)
		}
	}
	return s
}

// agree reports whether the memory may be what the picture shows: one glyph has
// one shape, and two glyphs have two. Without the latter, the lines of a list
// that has scrolled would look like the lines above them. One cell may
// disagree: the cursor's.
func agree(screen []byte, shapes []shape) bool {
	shapeOf, glyphOf := map[rune]shape{}, map[shape]rune{}
	wrong := 0
	for i, s := range shapes {
		r := glyphs[screen[2*i]]
		if strings.ContainsRune("\u00a0█", r) {
			r = ' ' // one colour, whichever
		}
		if strings.ContainsRune("▀▄▌▐", r) {
			continue // pairs of which each is the other's reverse
		}
		if _, ok := shapeOf[r]; !ok {
			shapeOf[r] = s
		}
		if _, ok := glyphOf[s]; !ok {
			glyphOf[s] = r
		}
		if shapeOf[r] != s || glyphOf[s] != r || (r == ' ') != (s == shape{}) {
			wrong++
		}
	}
	return wrong <= 1
}

// ExpectScreen waits until the VGA text screen, its lines joined by \n, matches
// the pattern, and returns the match and its groups. It gives up as
// [Guest.Expect] does, and the error then holds the screen.
func (g *Guest) ExpectScreen(ctx context.Context, pattern string) ([]string, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	pause := time.NewTicker(100 * time.Millisecond)
	defer pause.Stop()
	for {
		lines, err := g.ScreenText()
		if err != nil && !errors.Is(err, errNoText) {
			select {
			case <-g.ended: // it closes what it was asked through a moment before
				return nil, g.console.explain(fmt.Errorf("%w before its screen showed %q", ErrEnded, pattern))
			case <-time.After(5 * time.Second):
				return nil, err
			}
		}
		screen := strings.Join(lines, "\n")
		if m := re.FindStringSubmatch(screen); m != nil {
			return m, nil
		}
		select {
		case <-pause.C:
		case <-g.ended:
			return nil, g.console.explain(fmt.Errorf("%w before its screen showed %q", ErrEnded, pattern))
		case <-ctx.Done():
			return nil, fmt.Errorf("the guest's screen does not show %q: %w; it shows\n%s", pattern, ctx.Err(), lastLines([]byte(screen), textRows))
		}
	}
}
