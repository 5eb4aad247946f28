// Figures measures what docs/benchmarks.md reports, and prints it as a table. It
// judges nothing: times depend on the machine, and only counts are tested. With the argument
// "vtpms" it measures guests' TPMs alone, with "guests" the same from within guests in QEMU.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/antievilmaid/aem/internal/testbed"
)

// runs is how often each of two things is done, in turn.
const runs = 15

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) == 2 && os.Args[1] == "relay" {
		return relay()
	}
	if len(os.Args) == 2 && os.Args[1] == "guest" {
		return inGuest()
	}
	dir, err := os.MkdirTemp("", "aem-fig-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// Emulators have users of their own, who must reach their folders.
	if err := os.Chmod(dir, 0o711); err != nil {
		return err
	}
	fmt.Printf("%d CPUs, %s, %d runs each, in turn; medians (lowest to highest)\n", runtime.NumCPU(), runtime.Version(), runs)
	if len(os.Args) == 2 && os.Args[1] == "vtpms" {
		return vtpms(filepath.Join(dir, "vtpms"))
	}
	if len(os.Args) == 2 && os.Args[1] == "guests" {
		return withDaemon(filepath.Join(dir, "guests"), inGuests)
	}
	program := filepath.Join(dir, "aem")
	b, err := testbed.Program("./cmd/aem")
	if err != nil {
		return err
	}
	if err := os.WriteFile(program, b, 0o755); err != nil {
		return err
	}
	fmt.Println("\n| figure | value |\n| --- | --- |")
	fmt.Printf("| size of the initramfs program, stripped | %.2f MB |\n", float64(len(b))/1e6)

	var usual []command
	for i, c := range []struct {
		pin  string
		disk bool
		name string
	}{
		{"", false, "without PIN"}, {"2718", false, "with PIN"}, {"", true, "without PIN, one encrypted disk"}, {"2718", true, "with PIN, one encrypted disk"},
	} {
		l, err := newLaptop(filepath.Join(dir, fmt.Sprintf("tpm%d", i)), c.pin, c.disk)
		if err != nil {
			return err
		}
		defer l.stop()
		commands, err := l.commands(c.pin)
		if err != nil {
			return err
		}
		fmt.Printf("| TPM 2.0 commands from start to proof, four banks, %s | %d |\n", c.name, len(commands))
		if c.pin == "" && c.disk {
			usual = commands
		}
	}

	l, err := newLaptop(filepath.Join(dir, "ours"), "", false)
	if err != nil {
		return err
	}
	defer l.stop()
	tools, err := newTools(filepath.Join(dir, "theirs"))
	if err != nil {
		return err
	}
	defer tools.stop()
	var ours, theirs, starts, rss []float64
	for range runs {
		took, peak, err := l.unseal(program)
		if err != nil {
			return err
		}
		ours, rss = append(ours, took), append(rss, peak)
		if took, err = tools.unseal(); err != nil {
			return err
		}
		theirs = append(theirs, took)
		if took, err = timed(exec.Command(program, "--help")); err != nil {
			return err
		}
		starts = append(starts, took)
	}
	fmt.Printf("| `aem unseal`, from exec to the proof on the screen | %s ms |\n", spread(ours))
	fmt.Printf("| tpm2-tools, the same steps by a shell script | %s ms |\n", spread(theirs))
	fmt.Printf("| ratio of the medians | %.2f |\n", median(ours)/median(theirs))
	fmt.Printf("| start-up of the program (`aem --help`) | %s ms |\n", spread(starts))
	fmt.Printf("| peak memory of `aem unseal` | %s MB |\n", spread(rss))
	if err := reading(dir, program); err != nil {
		return err
	}
	if err := chains(dir); err != nil {
		return err
	}
	model(usual)
	if err := vtpms(filepath.Join(dir, "vtpms")); err != nil {
		return err
	}
	return withDaemon(filepath.Join(dir, "guests"), inGuests)
}

// timed runs a command and returns its time in milliseconds.
func timed(cmd *exec.Cmd) (ms float64, err error) {
	start := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(start)
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, out)
	}
	return float64(took.Microseconds()) / 1000, nil
}

// peak is the most memory that a running process has had, in megabytes. What
// wait4 tells would include this program's own, from before the exec.
func peak(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		var kb float64
		if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kb); n == 1 {
			return kb / 1000, nil
		}
	}
	return 0, errors.New("the kernel does not tell a process's peak memory")
}

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

func spread(list []float64) string { return within(list, 1) }

func hundredths(list []float64) string { return within(list, 2) }

// within is a list's median, with the lowest and the highest.
func within(list []float64, digits int) string {
	text := func(v float64) string { return strconv.FormatFloat(v, 'f', digits, 64) }
	return text(median(list)) + " (" + text(slices.Min(list)) + " to " + text(slices.Max(list)) + ")"
}
