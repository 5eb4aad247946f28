package testbed_test

import (
	"context"
	"errors"
	"image"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
)

// disk makes an image with one file in it.
func disk(t *testing.T) string {
	t.Helper()
	testbed.Need(t, "mke2fs", "debugfs")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "motto"), []byte("festina lente\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "disk.img")
	if err := testbed.Ext4Image(path, 16, dir); err != nil {
		t.Fatal(err)
	}
	return path
}

// greeter is an image whose guest greets who types a name on its console.
func greeter(t *testing.T, args ...string) *testbed.Image {
	t.Helper()
	im := &testbed.Image{Load: testbed.DiskModules(), Steps: []testbed.Step{
		testbed.Mount("/dev/vda", "/mnt"),
		testbed.RunOnTTY(append([]string{"/bin/greeter"}, args...)...),
	}}
	if err := im.Program("bin/greeter", "./internal/testbed/testdata/greeter"); err != nil {
		t.Fatal(err)
	}
	return im
}

func expect(t *testing.T, g *testbed.Guest, pattern string) []string {
	t.Helper()
	m, err := g.Expect(t.Context(), pattern)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func wait(t *testing.T, g *testbed.Guest) {
	t.Helper()
	if err := g.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestGuestSeesItsTPMAndItsDisk(t *testing.T) {
	for _, c := range []struct {
		version tpm.Version
		device  string
		bank    string
		ones    string
	}{
		{tpm.V12, "tpm-tis", "/sys/class/tpm/tpm0/device/pcrs", `PCR-17: (FF ){20}`},
		{tpm.V20, "tpm-tis", "/sys/class/tpm/tpm0/pcr-sha256/17", `(?m)^F{64}\r?$`},
		{tpm.V20, "tpm-crb", "/sys/class/tpm/tpm0/pcr-sha1/17", `(?m)^F{40}\r?$`},
	} {
		t.Run(c.version.String()+" "+c.device, func(t *testing.T) {
			t.Parallel()
			client, emulator := testbed.NewTPM(t, c.version)
			client.Close() // QEMU is the one client now
			img := disk(t)
			g := testbed.NewGuest(t, testbed.Config{
				Image: &testbed.Image{Load: testbed.DiskModules(), Steps: []testbed.Step{
					testbed.Cat(c.bank),
					testbed.Mount("/dev/vda", "/mnt"),
					testbed.Cat("/mnt/motto"),
					testbed.Cat("/mnt/nothing"),
				}},
				TPM: emulator.Socket(), TPMDevice: c.device,
				Drives: []testbed.Drive{{Path: img}},
			})
			expect(t, g, c.ones)
			expect(t, g, `GUEST exit 0 mount /dev/vda /mnt ext4`)
			expect(t, g, `festina lente`)
			expect(t, g, `GUEST exit 0 cat /mnt/motto`)
			expect(t, g, `GUEST exit 1 cat /mnt/nothing`)
			expect(t, g, `GUEST end poweroff`)
			wait(t, g)
		})
	}
}

func TestPersonAtTheSerialLine(t *testing.T) {
	img := disk(t)
	g := testbed.NewGuest(t, testbed.Config{Image: greeter(t), Append: "guest.size=25x81", Drives: []testbed.Drive{{Path: img}}})
	expect(t, g, `terminal vt220, 25 rows, 81 columns \(<nil>\)`)
	expect(t, g, `Who are you\? `)
	if err := g.Type("Ada\r"); err != nil {
		t.Fatal(err)
	}
	expect(t, g, `Hello, Ada`)
	if m := expect(t, g, `GUEST exit (\d+) /bin/greeter`); m[1] != "4" {
		t.Errorf("the exit code was reported as %s; want 4", m[1])
	}
	wait(t, g)
	if got, err := testbed.ReadExt4(img, "/name"); err != nil || string(got) != "Ada\n" {
		t.Errorf("the disk holds the name %q, %v", got, err)
	}
}

func TestPersonAtTheScreen(t *testing.T) {
	img := disk(t)
	g := testbed.NewGuest(t, testbed.Config{Image: greeter(t, "stay"), Append: "guest.console=tty1", Drives: []testbed.Drive{{Path: img}}})
	showScreen := func(pattern string) []string {
		t.Helper()
		m, err := g.ExpectScreen(t.Context(), pattern)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	press := func(text string) {
		t.Helper()
		if err := g.SendKeys(text); err != nil {
			t.Fatal(err)
		}
	}
	showScreen(`(?m)^terminal linux, 25 rows, 80 columns \(<nil>\)\nWho are you\?$`)
	before, err := g.StillScreen(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	name := "`Ada` L. {#1}: 9*5=45 ~?\t!"
	press(name + "\n")
	if m := showScreen(`(?m)^Hello, (.*)$`); !strings.HasPrefix(m[1], "`Ada` L. {#1}: 9*5=45 ~?") {
		t.Errorf("the screen greets %q", m[1])
	}
	after, err := g.StillScreen(t.Context(), func(m *image.RGBA) bool { return testbed.Lit(m) > testbed.Lit(before) })
	if err != nil {
		t.Fatal(err)
	}
	checkPNG(t, after)
	press("\n")
	expect(t, g, `GUEST exit 4 /bin/greeter stay`)
	wait(t, g)
	if strings.Contains(string(g.Transcript()), "Hello") {
		t.Error("what was for the screen came out of the serial line")
	}
	if got, err := testbed.ReadExt4(img, "/name"); err != nil || string(got) != name+"\n" {
		t.Errorf("the disk holds the name %q, %v; want %q", got, err, name)
	}
}

// checkPNG saves a screen and reads it back.
func checkPNG(t *testing.T, screen *image.RGBA) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "screen.png")
	if err := testbed.SavePNG(path, screen); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	// 80 by 25 characters of 9 by 16 pixels: the VGA text screen, no frame buffer.
	if m.Bounds() != image.Rect(0, 0, 720, 400) || testbed.Lit(m) == 0 || testbed.Lit(m) != testbed.Lit(screen) {
		t.Errorf("the saved screen is %v and %v lit; the screen is %v lit", m.Bounds(), testbed.Lit(m), testbed.Lit(screen))
	}
}

func TestScrolledScreenIsRead(t *testing.T) {
	im := &testbed.Image{Steps: []testbed.Step{testbed.RunOnTTY("/bin/scroller")}}
	if err := im.Program("bin/scroller", "./internal/testbed/testdata/scroller"); err != nil {
		t.Fatal(err)
	}
	g := testbed.NewGuest(t, testbed.Config{Image: im, Append: "guest.console=tty1"})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	m, err := g.ExpectScreen(ctx, `(?s)^line (\d+) .*line 400 ─┐│$`)
	if err != nil {
		t.Fatal(err)
	}
	if m[1] != "376" {
		t.Errorf("the screen's first line is line %s; want 376", m[1])
	}
}

func TestAttachJoinsAPersonToTheGuest(t *testing.T) {
	g := testbed.NewGuest(t, testbed.Config{Image: greeter(t), Drives: []testbed.Drive{{Path: disk(t)}}})
	in, keys, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	screen, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	attached := make(chan error, 1) // the output is closed after the answer is there
	go func() {
		attached <- g.Attach(in, out)
		out.Close()
	}()
	expect(t, g, `Who are you\? `)
	if _, err := keys.WriteString("Ada\r"); err != nil {
		t.Fatal(err)
	}
	seen, err := io.ReadAll(screen)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-attached; err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(seen), "Hello, Ada") || !strings.Contains(string(seen), "GUEST end poweroff") {
		t.Errorf("the person saw %q", seen)
	}
	if !strings.Contains(string(g.Transcript()), "Hello, Ada") {
		t.Error("the transcript has a gap where a person was attached")
	}
}

func TestAttachEndsByItsKey(t *testing.T) {
	g := testbed.NewGuest(t, testbed.Config{Image: greeter(t), Drives: []testbed.Drive{{Path: disk(t)}}})
	in, keys, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	nothing, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer nothing.Close()
	if _, err := keys.WriteString("\x1d"); err != nil {
		t.Fatal(err)
	}
	if err := g.Attach(in, nothing); err != nil {
		t.Fatal(err)
	}
	// The guest went on without the person.
	expect(t, g, `Who are you\? `)
}

func TestResetStartsTheGuestAgain(t *testing.T) {
	g := testbed.NewGuest(t, testbed.Config{Resets: true, Image: &testbed.Image{Steps: []testbed.Step{{End: "reset"}}}})
	expect(t, g, `GUEST end reset`)
	expect(t, g, `GUEST end reset`)
	if err := g.Reset(); err != nil {
		t.Fatal(err)
	}
	expect(t, g, `GUEST end reset`)
}

func TestResetEndsAGuestThatMayNot(t *testing.T) {
	g := testbed.NewGuest(t, testbed.Config{Image: &testbed.Image{Steps: []testbed.Step{{End: "reset"}}}})
	wait(t, g)
	if n := strings.Count(string(g.Transcript()), "GUEST end reset"); n != 1 {
		t.Errorf("the guest started %d times", n)
	}
}

func TestPanicIsNamed(t *testing.T) {
	k, err := testbed.FindKernel()
	if err != nil {
		t.Fatal(err)
	}
	g := testbed.NewGuest(t, testbed.Config{Kernel: k.Image, Append: "console=ttyS0 panic=-1 quiet"}) // no root, no init
	_, err = g.Expect(t.Context(), "GUEST")
	if !errors.Is(err, testbed.ErrPanic) || !strings.Contains(err.Error(), "Unable to mount root fs") {
		t.Errorf("Expect: %v; want ErrPanic with the kernel's reason", err)
	}
	if err := g.Wait(t.Context()); !errors.Is(err, testbed.ErrPanic) {
		t.Errorf("Wait: %v; want ErrPanic", err)
	}
}

func TestExpectGivesUp(t *testing.T) {
	g := testbed.NewGuest(t, testbed.Config{Image: &testbed.Image{Steps: []testbed.Step{testbed.Cat("/proc/version")}}})
	expect(t, g, `GUEST exit 0`)
	over, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	_, err := g.Expect(over, "never")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "Linux version") {
		t.Errorf("at the deadline: %v; want the deadline's error with the last lines", err)
	}
	if _, err := g.Expect(t.Context(), "never"); !errors.Is(err, testbed.ErrEnded) {
		t.Errorf("at the guest's end: %v; want ErrEnded", err)
	}
}

func TestQEMUsRefusalIsTold(t *testing.T) {
	testbed.Need(t, "qemu-system-x86_64")
	g, err := testbed.StartGuest(testbed.Config{Extra: []string{"-device", "warp-drive"}})
	if err == nil {
		g.Kill()
		t.Fatal("a guest with a warp drive started")
	}
	if !strings.Contains(err.Error(), "warp-drive") {
		t.Errorf("%v; want QEMU's own words", err)
	}
}

func TestReadExt4SaysWhatIsMissing(t *testing.T) {
	if _, err := testbed.ReadExt4(disk(t), "/nothing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v; want ErrNotExist", err)
	}
}
