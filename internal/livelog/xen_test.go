package livelog_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/livelog"
)

// The two forms in which Xen's versions print a range, with and without the time.
func TestXensMessages(t *testing.T) {
	for _, line := range []string{
		"(XEN) SLAUNCH: reserving event log (0xc5de4000 - 0xc5de5000)",
		"(XEN) SLAUNCH: reserving event log [0xc5de4000, 0xc5de5000)",
		"(XEN) SLAUNCH: reserving event log range [0xc5de4000, 0xc5de5000)",
		"(XEN) [2025-09-28 09:18:15] SLAUNCH: reserving event log (0xc5de4000 - 0xc5de5000)",
		"(XEN) [    0.000000] SLAUNCH: reserving event log (0xC5DE4000 - 0xC5DE5000)\r",
	} {
		m := newMachine(t)
		m.xen = "g from the line before, of which the ring kept the end\n(XEN) Xen version 4.17.4\n" + line + "\n(XEN) later\n"
		m.pieces[ringLog] = append(inRoom(agile(t, "a launch"), logRoom), "what lies behind it"...)
		r := m.find(t)
		want := livelog.Found{Source: livelog.XenRing, Name: "Xen's messages, log at 0xc5de4000", Bytes: m.pieces[ringLog][:logRoom], Address: ringLog}
		if diff := cmp.Diff(want, one(t, r)); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", line, diff)
		}
		if want := []span{registersPage, {ringLog, logRoom}}; !slices.Equal(r.asked, want) {
			t.Errorf("%s: the memory was asked for %+v", line, r.asked)
		}
	}
}

// What a guest prints, and what somebody lets a program print, is not Xen's word.
func TestMessagesThatAreNotXens(t *testing.T) {
	for _, line := range []string{
		"(d3) SLAUNCH: reserving event log (0xc5de4000 - 0xc5de5000)",
		"SLAUNCH: reserving event log (0xc5de4000 - 0xc5de5000)",
		"(XEN) d3: SLAUNCH: reserving event log (0xc5de4000 - 0xc5de5000)",
		"(XEN) [ SLAUNCH: reserving event log (0xc5de4000 - 0xc5de5000)",
		" (XEN) SLAUNCH: reserving event log (0xc5de4000 - 0xc5de5000)",
	} {
		m := newMachine(t)
		m.xen = line + "\n"
		m.pieces[ringLog] = inRoom(agile(t, "a launch"), logRoom)
		if r := m.find(t); len(r.launch) != 0 {
			t.Errorf("%s: %+v", line, r.launch)
		}
	}
}

func TestFirstOfXensMessagesCounts(t *testing.T) {
	m := newMachine(t)
	m.xen = "(XEN) SLAUNCH: reserving event log (0xc5de4000 - 0xc5de5000)\n(XEN) SLAUNCH: reserving event log (0xa87e4000 - 0xa87e5000)\n"
	m.pieces[ringLog], m.pieces[agileLog] = inRoom(agile(t, "Xen's"), logRoom), inRoom(agile(t, "dom0's"), logRoom)
	if got := texts(t, m.find(t).launch); !slices.Equal(got, []string{"Xen's"}) {
		t.Errorf("%q", got)
	}
}

// program puts a script named xl first among the programs.
func program(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "xl"), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// ofXen are the reasons that Xen's messages gave no log.
func ofXen(skipped []livelog.Skipped) (reasons []string, absent bool) {
	for _, s := range skipped {
		if s.Source == livelog.XenRing {
			reasons, absent = append(reasons, s.Reason), s.Absent
		}
	}
	return reasons, absent
}

func TestXLIsRun(t *testing.T) {
	program(t, `[ "$*" = dmesg ] && echo "(XEN) SLAUNCH: reserving event log (0x1000 - 0x2000)"`)
	for name, mark := range map[string]func(*machine){
		"by sysfs": func(m *machine) { m.file(t, "sys/hypervisor/type", []byte("xen\n")) },
		"by proc":  func(m *machine) { m.file(t, "proc/xen/capabilities", nil) },
	} {
		m := newMachine(t)
		mark(m)
		m.file(t, "dev/mem", append(make([]byte, 0x1000), inRoom(agile(t, "a launch"), 0x1000)...))
		launch, _, _ := livelog.Find(livelog.Machine{Root: m.root})
		if got := texts(t, launch); !slices.Equal(got, []string{"a launch"}) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestXLIsNotRunWithoutXen(t *testing.T) {
	ran := filepath.Join(t.TempDir(), "ran")
	program(t, fmt.Sprintf("touch %s", ran))
	for name, mark := range map[string]func(*machine){
		"on bare metal": func(m *machine) {},
		"under KVM":     func(m *machine) { m.file(t, "sys/hypervisor/type", []byte("kvm\n")); m.file(t, "proc/xen/x", nil) },
	} {
		m := newMachine(t)
		mark(m)
		_, _, skipped := livelog.Find(livelog.Machine{Root: m.root})
		if reasons, absent := ofXen(skipped); !absent || len(reasons) != 1 || !strings.Contains(reasons[0], "not run under Xen") {
			t.Errorf("%s: %q", name, reasons)
		}
		if _, err := os.Stat(ran); err == nil {
			t.Errorf("%s: xl was run", name)
		}
	}
}

func TestXLThatFails(t *testing.T) {
	m := newMachine(t)
	m.file(t, "sys/hypervisor/type", []byte("xen\n"))
	program(t, `printf 'xencall: \033[31mno permission\n' >&2; exit 3`)
	_, _, skipped := livelog.Find(livelog.Machine{Root: m.root})
	if reasons, absent := ofXen(skipped); absent || len(reasons) != 1 || !strings.Contains(reasons[0], `exit status 3: xencall: \x1b[31mno permission`) {
		t.Errorf("%q", reasons)
	}
	t.Setenv("PATH", t.TempDir())
	_, _, skipped = livelog.Find(livelog.Machine{Root: m.root})
	if reasons, absent := ofXen(skipped); absent || len(reasons) != 1 || !strings.Contains(reasons[0], "not installed") {
		t.Errorf("%q", reasons)
	}
}

// More than any ring holds is not looked through.
func TestMessagesBehindTheBound(t *testing.T) {
	m := newMachine(t)
	m.xen = strings.Repeat("(XEN) x\n", 1<<19) + "(XEN) SLAUNCH: reserving event log (0xc5de4000 - 0xc5de5000)\n"
	if reasons, absent := ofXen(m.find(t).skipped); !absent || len(reasons) != 1 {
		t.Errorf("%q", reasons)
	}
}

// A program that prints without end is read up to a bound, and what it printed first counts.
func TestXLThatPrintsALot(t *testing.T) {
	m := newMachine(t)
	m.file(t, "sys/hypervisor/type", []byte("xen\n"))
	m.file(t, "dev/mem", append(make([]byte, 0x1000), inRoom(agile(t, "a launch"), 0x1000)...))
	program(t, `echo "(XEN) SLAUNCH: reserving event log (0x1000 - 0x2000)"; head -c 6000000 /dev/zero | tr '\0' x; echo
echo "(XEN) SLAUNCH: reserving SLB (0xce540000 - 0xce550000)"`)
	launch, _, skipped := livelog.Find(livelog.Machine{Root: m.root})
	if got := texts(t, launch); !slices.Equal(got, []string{"a launch"}) {
		t.Errorf("%q", got)
	}
	for _, s := range skipped {
		if s.Source == livelog.SLBSLRT && !s.Absent {
			t.Errorf("what was printed behind the bound is read: %+v", s)
		}
	}
}
