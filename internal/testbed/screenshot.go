package testbed

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Screenshot is what the guest's VGA screen shows now.
func (g *Guest) Screenshot() (*image.RGBA, error) {
	path := filepath.Join(g.dir, "screen.ppm")
	if _, err := g.QMP("screendump", map[string]any{"filename": path}); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the screenshot: %w", err)
	}
	return parsePPM(b)
}

// SavePNG writes a screenshot to a file.
func SavePNG(path string, m image.Image) error {
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		return fmt.Errorf("encode the screenshot: %w", err)
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// StillScreen waits until the screen shows what shows accepts (anything, where
// it is nil) and two screenshots in a row are equal, and returns that screen.
func (g *Guest) StillScreen(ctx context.Context, shows func(*image.RGBA) bool) (*image.RGBA, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	pause := time.NewTicker(100 * time.Millisecond)
	defer pause.Stop()
	var last *image.RGBA
	for {
		now, err := g.Screenshot()
		if err != nil {
			return nil, err
		}
		if last != nil && now.Rect == last.Rect && bytes.Equal(now.Pix, last.Pix) && (shows == nil || shows(now)) {
			return now, nil
		}
		last = now
		select {
		case <-pause.C:
		case <-g.ended:
			return nil, g.console.explain(fmt.Errorf("%w before its screen showed what was waited for", ErrEnded))
		case <-ctx.Done():
			return nil, g.console.explain(fmt.Errorf("the guest's screen did not come to show what was waited for: %w", ctx.Err()))
		}
	}
}

// Lit reports how much of a screen is not black, from 0 to 1.
func Lit(m image.Image) float64 {
	n, r := 0, m.Bounds()
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			if red, green, blue, _ := m.At(x, y).RGBA(); red|green|blue != 0 {
				n++
			}
		}
	}
	return float64(n) / float64(max(1, r.Dx()*r.Dy()))
}

// parsePPM reads the one kind of PPM that QEMU writes: binary, 8 bits a colour.
func parsePPM(b []byte) (*image.RGBA, error) {
	r := bufio.NewReader(bytes.NewReader(b))
	var width, height, most int
	if _, err := fmt.Fscanf(r, "P6\n%d %d\n%d\n", &width, &height, &most); err != nil {
		return nil, fmt.Errorf("read the screenshot's header: %w", err)
	}
	if width <= 0 || height <= 0 || width > 1<<14 || height > 1<<14 || most != 255 {
		return nil, fmt.Errorf("a screenshot of %d by %d with %d shades is not one of QEMU's", width, height, most)
	}
	pixels := make([]byte, 3*width*height)
	if _, err := io.ReadFull(r, pixels); err != nil {
		return nil, fmt.Errorf("read the screenshot's pixels: %w", err)
	}
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	for i := range width * height {
		m.SetRGBA(i%width, i/width, color.RGBA{pixels[3*i], pixels[3*i+1], pixels[3*i+2], 255})
	}
	return m, nil
}
