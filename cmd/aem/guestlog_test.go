package main

import (
	"encoding/json"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/internal/xenlog"
	"github.com/antievilmaid/aem/internal/xenstore"
	"github.com/antievilmaid/aem/internal/xenstore/storetest"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/measure"
)

// xenGuest is a guest of Xen's as its programs see it: its TPM, told of its start, and xenstore's socket.
type xenGuest struct {
	t      *testing.T
	launch measure.Launch
	algs   []tpm.Alg
	v      tpm.Version
	chip   *swtpm.TPM
	tpm    string
	dom0   *xenstore.Conn
	store  string
}

const backendDir = "/local/domain/0/backend/vtpm/7/0"

func newXenGuest(t *testing.T, v tpm.Version, grade measure.Grade, changes ...func(*measure.Launch)) *xenGuest {
	t.Helper()
	conn, emulator := testbed.NewForeignTPM(t, v)
	g := &xenGuest{t: t, v: v, chip: conn, tpm: "swtpm:" + emulator.Socket(), algs: []tpm.Alg{tpm.SHA1}}
	if v == tpm.V20 {
		g.algs = []tpm.Alg{tpm.SHA1, tpm.SHA256, tpm.SHA384, tpm.SHA512}
	}
	part := func(name string) *measure.File {
		return &measure.File{Name: name, Digests: tpm.SumAll([]tpm.Alg{tpm.SHA1, tpm.SHA256, tpm.SHA384, tpm.SHA512}, []byte(name))}
	}
	host := tpm.Bank{Alg: tpm.SHA256}
	for p := range tpm.PCR(tpm.NumPCRs) {
		host.Values[p] = tpm.SHA256.Sum([]byte{byte(p)})
	}
	g.launch = measure.Launch{
		Guest: vtpm.Guest{UUID: vtpm.UUID{7}}, Start: measure.Measured, Kernel: part("vmlinuz"), Configuration: part("web.cfg"), Initrd: part("initrd.img"),
		CommandLine: "root=/dev/xvda", Host: measure.Host{Grade: grade, PCRs: tpm.Banks{host}}, Copies: tpm.PCRSet(7),
	}
	for _, change := range changes {
		change(&g.launch)
	}
	steps, err := g.launch.Steps(g.algs)
	g.must(err)
	for _, step := range steps {
		if step.ByLaunch() {
			g.must(conn.Launch(step.Event.Data))
		} else {
			g.must(testbed.Extend(conn, v, step.At, step.Event.PCR, step.Event.Digests))
		}
	}
	g.must(testbed.Extend(conn, v, 0, 0, tpm.SumAll(g.algs, []byte("a firmware's, or the guest's"))))
	conn.Close() // each command line opens the TPM for itself

	s := storetest.New()
	g.dom0, g.store = s.Connect(), filepath.Join(t.TempDir(), "s")
	t.Cleanup(func() { g.dom0.Close() })
	g.must(g.dom0.Write(backendDir+"/state", "4"))
	g.must(g.dom0.SetPermissions(backendDir, "n0", "r7"))
	g.must(g.dom0.Write("/local/domain/7/device/vtpm/0/backend", backendDir))
	g.must(g.dom0.SetPermissions("/local/domain/7", "n0", "r7"))
	l, err := net.Listen("unix", g.store)
	g.must(err)
	t.Cleanup(func() { l.Close() })
	go s.Listen(l, 7)
	g.write(&g.launch)
	return g
}

func (g *xenGuest) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

// write has the host write the log of a launch.
func (g *xenGuest) write(launch *measure.Launch) {
	g.t.Helper()
	log, err := launch.Log(g.v, g.algs)
	g.must(err)
	b, err := log.AppendTo(nil)
	g.must(err)
	g.must(g.dom0.Transaction(func(tx *xenstore.Tx) error { return xenlog.Write(tx, backendDir, 7, b) }))
}

func (g *xenGuest) log(args ...string) (aem.Exit, string) {
	g.t.Helper()
	exit, out, stderr := capture(g.t, append([]string{"log", "--tpm", g.tpm}, args...))
	return exit, out + stderr
}

// report is what aem log says as JSON.
func (g *xenGuest) report(want aem.Exit, args ...string) logReport {
	g.t.Helper()
	exit, out := g.log(append(args, "--json")...)
	var r logReport
	if exit != want || json.Unmarshal([]byte(out), &r) != nil {
		g.t.Errorf("exit %d; want %d\n%s", exit, want, out)
	}
	return r
}

// In a guest of Xen's, aem log finds what the host measured of its start in xenstore, names it, and proves it
// by the guest's TPM, in every bank; and the same bytes from a file.
func TestLogInAGuestOfXens(t *testing.T) {
	for _, v := range []tpm.Version{tpm.V20, tpm.V12} {
		t.Run(v.String(), func(t *testing.T) {
			g := newXenGuest(t, v, measure.Launched)
			r := g.report(aem.ExitOK, "--xen="+g.store)
			var names []string
			for _, e := range r.Events {
				names = append(names, e.What)
			}
			want := []string{"the host's launch", "the host's PCR 7", "the guest's configuration", "the guest's kernel", "the guest's command line", "the guest's initramfs", "the guest's start"}
			if d := cmp.Diff(want, names); d != "" {
				t.Error(d)
			}
			verdicts := map[uint32]int{}
			for _, v := range r.Verdicts {
				if v.Verdict == "match" && v.TPM == v.Log {
					verdicts[v.PCR]++
				}
			}
			n := len(g.algs)
			if d := cmp.Diff(map[uint32]int{1: n, 4: n, 5: n, 7: n, 17: n, 18: n}, verdicts); d != "" || r.Launch != "verified" {
				t.Errorf("%s: %s", r.Launch, d)
			}

			exit, text := g.log("--xen=" + g.store)
			for _, want := range []string{"Launch: verified", "\n  grade launched\n", "\n  start measured\n", "the guest's kernel", "kernel " + tpm.SHA256.Sum([]byte("vmlinuz")).String()} {
				if exit != aem.ExitOK || !strings.Contains(text, want) {
					t.Errorf("exit %d, without %q:\n%s", exit, want, text)
				}
			}

			exit, binary := g.log("--xen="+g.store, "--format", "binary")
			path := file(t, []byte(binary))
			if again := g.report(aem.ExitOK, path); exit != aem.ExitOK || !cmp.Equal(again.Verdicts, r.Verdicts) {
				t.Errorf("from a file: exit %d, %v", exit, again.Verdicts)
			}
			if exit, text := g.log(path, "--xen="+g.store); exit != aem.ExitUsage {
				t.Errorf("two logs at once: exit %d, %s", exit, text)
			}
		})
	}
}

// A log that tells of another start is not believed, in which part ever it differs.
func TestLogOfAGuestThatLies(t *testing.T) {
	g := newXenGuest(t, tpm.V20, measure.Launched)
	for name, lie := range map[string]func(*measure.Launch){
		"kernel":       func(l *measure.Launch) { l.Kernel = l.Initrd },
		"command line": func(l *measure.Launch) { l.CommandLine += " init=/bin/sh" },
		"host": func(l *measure.Launch) {
			l.Host.PCRs = l.Host.PCRs.Clone()
			l.Host.PCRs[0].Values[17] = tpm.SHA256.Sum(nil)
		},
		"vTPM":      func(l *measure.Launch) { l.Guest.UUID = vtpm.UUID{8} },
		"no launch": func(l *measure.Launch) { l.Host.Grade = measure.StaticRoot },
		"copies":    func(l *measure.Launch) { l.Copies = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			g.t = t
			l := g.launch
			lie(&l)
			g.write(&l)
			if r := g.report(aem.ExitMeasurements, "--xen="+g.store); r.Launch != "unproven" {
				t.Errorf("it is %s", r.Launch)
			}
		})
	}
	t.Run("a text that was not measured", func(t *testing.T) {
		g.t = t
		log, err := g.launch.Log(g.v, g.algs)
		g.must(err)
		last := &log.Events[len(log.Events)-1]
		last.Data = []byte(strings.Replace(string(last.Data), "start measured", "start firmware", 1))
		b, err := log.AppendTo(nil)
		g.must(err)
		g.must(g.dom0.Transaction(func(tx *xenstore.Tx) error { return xenlog.Write(tx, backendDir, 7, b) }))
		if r := g.report(aem.ExitMeasurements, "--xen="+g.store); r.Launch != "unproven" || !strings.Contains(r.Reason, "PCR 18 is not what was measured") {
			t.Errorf("it is %s: %s", r.Launch, r.Reason)
		}
	})
	t.Run("a piece is missing", func(t *testing.T) {
		g.t = t
		g.must(g.dom0.Remove(backendDir + "/log/00"))
		if exit, text := g.log("--xen=" + g.store); exit != aem.ExitError || !strings.Contains(text, "missing") {
			t.Errorf("exit %d, %s", exit, text)
		}
	})
}

// Where the host was not launched, its guest's log agrees, and proves no launch.
func TestLogOfAGuestOnAHostThatWasNotLaunched(t *testing.T) {
	g := newXenGuest(t, tpm.V20, measure.StaticRoot)
	r := g.report(aem.ExitMeasurements, "--xen="+g.store)
	if r.Launch != "not launched" || !strings.Contains(r.Reason, "says nothing of a launch") {
		t.Errorf("it is %s: %s", r.Launch, r.Reason)
	}
}

// A guest with a firmware, as QEMU's have, has further events in the PCRs that were copied from the host, and those
// are in the firmware's log. A log that only claims that there is one is not believed.
func TestLogOfAGuestWithFirmware(t *testing.T) {
	firmware := func(l *measure.Launch) {
		l.Start, l.Kernel, l.Configuration, l.Initrd, l.Copies = measure.Firmware, nil, nil, nil, tpm.PCRSet(0, 7)
	}
	g := newXenGuest(t, tpm.V20, measure.Launched, firmware)
	r := g.report(aem.ExitOK, "--xen="+g.store)
	seen := map[uint32]bool{}
	for _, v := range r.Verdicts {
		seen[v.PCR] = true
	}
	if d := cmp.Diff(map[uint32]bool{17: true, 18: true}, seen); d != "" || r.Launch != "verified" {
		t.Errorf("%s: %s", r.Launch, d)
	}

	g = newXenGuest(t, tpm.V20, measure.Launched)
	l := g.launch
	firmware(&l)
	g.write(&l)
	if r := g.report(aem.ExitMeasurements, "--xen="+g.store); r.Launch != "unproven" {
		t.Errorf("of a measured guest: %s", r.Launch)
	}
}
