// Package rules holds the rules of the house as tests: which room may use which.
package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/antievilmaid/aem"

// floors are the rooms of the house from the ground up; a room uses what lies
// below it. Rooms under internal/ stand beside the house and are used by whoever
// needs them, but use nothing above the floor given here.
var floors = map[string]int{
	"tpm": 1, "tpm12": 2, "tpm2": 2, "eventlog": 2, "drtm": 3, "seal": 3, "aem": 4, "vtpm": 4, "attest": 4, "ui": 4, "cmd": 5,
}

// exceptions are uses within a floor, or upward, that the house's picture shows.
var exceptions = map[string]bool{
	"tpm -> internal/swtpm": true, // tpm/device opens an emulator's socket
}

// silent are the rooms that only turn bytes into values.
var silent = []string{"tpm", "tpm12", "tpm2", "eventlog", "drtm"}

// doors are the packages in silent rooms through which a device is reached.
var doors = []string{module + "/tpm/device", module + "/tpm/tis"}

// loud is what they must not use: files, devices, networks, clocks, loggers.
var loud = []string{"os", "os/exec", "net", "net/http", "syscall", "log", "log/slog", "golang.org/x/sys/unix"}

type pkg struct {
	ImportPath string
	Imports    []string
}

// packages lists the module's packages with what they import outside of tests.
func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	if len(list) < 10 {
		t.Fatalf("only %d packages were found", len(list))
	}
	return list
}

// room is the part of the house that a package belongs to, such as tpm for
// tpm/device and internal/swtpm for itself.
func room(path string) string {
	words := strings.Split(strings.TrimPrefix(path, module+"/"), "/")
	if words[0] == "internal" {
		return strings.Join(words[:2], "/")
	}
	return words[0]
}

func inside(path string) bool { return strings.HasPrefix(path, module+"/") }

func TestImportsPointDown(t *testing.T) {
	for _, p := range packages(t) {
		from := room(p.ImportPath)
		for _, imp := range p.Imports {
			to := room(imp)
			if !inside(imp) || to == from || floors[from] == 0 || floors[to] == 0 || exceptions[from+" -> "+to] {
				continue
			}
			if floors[to] >= floors[from] {
				t.Errorf("%s uses %s, which does not lie below it", from, to)
			}
		}
	}
}

func TestUIKnowsNothingOfOurs(t *testing.T) {
	for _, p := range packages(t) {
		for _, imp := range p.Imports {
			if room(p.ImportPath) == "ui" && inside(imp) {
				t.Errorf("ui uses %s", imp)
			}
		}
	}
}

func TestWireFormatsTouchNothing(t *testing.T) {
	for _, p := range packages(t) {
		if slices.Contains(doors, p.ImportPath) || !slices.Contains(silent, room(p.ImportPath)) {
			continue
		}
		for _, imp := range p.Imports {
			if slices.Contains(loud, imp) {
				t.Errorf("%s uses %s", room(p.ImportPath), imp)
			}
		}
	}
}

// What only tests and the demo use must not find its way into a program.
func TestProgramsDoNotShipTheTestBed(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", module+"/cmd/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	for _, forbidden := range []string{"testing", module + "/internal/testbed", module + "/internal/pty", module + "/internal/manpage"} {
		if slices.Contains(deps, forbidden) {
			t.Errorf("a program uses %s", forbidden)
		}
	}
}

// Stage 1 only reads what its builder wrote: aem, which is small so that it fits into
// every initramfs, has no writer of archives.
func TestAEMWritesNoArchives(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", module+"/cmd/aem").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 10 {
		t.Fatalf("only %d packages were found", len(deps))
	}
	for _, forbidden := range []string{module + "/internal/initramfs", module + "/internal/stage1/image", "github.com/u-root/u-root/pkg/cpio"} {
		if slices.Contains(deps, forbidden) {
			t.Errorf("aem uses %s", forbidden)
		}
	}
}
