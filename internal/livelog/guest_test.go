package livelog_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/antievilmaid/aem/drtm/slrt"
	"github.com/antievilmaid/aem/drtm/txt"
	"github.com/antievilmaid/aem/internal/testbed"
)

// probe runs the probe in a guest and returns a function that waits for a line of it.
func probe(t *testing.T, c testbed.Config, args ...string) func(pattern string) {
	t.Helper()
	// The emulator's CPU is AMD's, and those have no such registers.
	c.Extra = append(c.Extra, "-cpu", "max,vendor=GenuineIntel")
	c.Image = &testbed.Image{Steps: []testbed.Step{testbed.Run(append([]string{"/bin/probe"}, args...)...)}}
	if err := c.Image.Program("bin/probe", "./internal/livelog/testdata/probe"); err != nil {
		t.Fatal(err)
	}
	g := testbed.NewGuest(t, c)
	if err := g.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	said := g.Transcript()
	return func(pattern string) {
		t.Helper()
		if !regexp.MustCompile(pattern).Match(said) {
			t.Errorf("the probe did not say %s:\n%s", pattern, regexp.MustCompile(`(?m)^.*PROBE.*$`).FindAll(said, -1))
		}
	}
}

// A real kernel's /dev/mem, with what TXT leaves in memory: the registers where no
// memory is, the heap and the logs in memory that the kernel was told to keep free.
func TestRealKernelsMemory(t *testing.T) {
	const place = 128 << 20
	dir := t.TempDir()
	heapLog, slrtLog := agile(t, "element 8"), inRoom(agile(t, "SLRT"), logRoom)
	area := make([]byte, 0x10000)
	copy(area, heap(newOSMLE(place+0x2000), pointer8(place+0x4003, logRoom, 0, len(heapLog))))
	copy(area[0x2000:], table(slrt.New, slrt.TXT, place+0x6000, logRoom))
	copy(area[0x4003:], heapLog) // no aligned address, as in one capture
	copy(area[0x6000:], slrtLog)
	page := make([]byte, 64<<10)
	copy(page, registers(launched, place, heapSize))
	for name, b := range map[string][]byte{"area": area, "registers": page} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	says := probe(t, testbed.Config{
		HandOver: filepath.Join(dir, "registers"),
		Append:   fmt.Sprintf("memmap=%#x$%#x", len(area), place),
		Extra:    []string{"-device", fmt.Sprintf("loader,file=%s,addr=%#x,force-raw=on", filepath.Join(dir, "area"), place)},
	}, fmt.Sprintf("%#x", txt.PublicBase))
	says(`PROBE registers: in a measured environment, heap at 0x8000000`)
	says(fmt.Sprintf(`PROBE found TXT heap, element 8, at 0x8004003: %x`, sha256.Sum256(heapLog)))
	says(fmt.Sprintf(`PROBE found SLRT named in the TXT heap, at 0x8002000, log at 0x8006000: %x`, sha256.Sum256(slrtLog)))
	says(`PROBE ordinary memory: refused true: .*CONFIG_STRICT_DEVMEM`)
}

// A kernel that is locked down lets nobody read memory, and the person is told what
// locked it.
func TestLockedDownKernel(t *testing.T) {
	says := probe(t, testbed.Config{Append: "lockdown=integrity"})
	says(`PROBE registers: no TXT false: .*locked down \(integrity\)`)
	says(`PROBE skipped TXT heap: .*locked down \(integrity\)`)
	says(`PROBE ordinary memory: refused true: .*locked down`)
}
