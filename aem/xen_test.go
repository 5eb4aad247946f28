package aem_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
)

// xen is a laptop that boots Xen by Multiboot 2, as the log of its approved launch tells.
type xen struct {
	*laptop
	root *testbed.DebianRoot
}

func packedXen(t *testing.T, code string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(code)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (x *xen) install(at time.Time, version, code string) {
	x.t.Helper()
	x.root.InstallPackage("xen-hypervisor", version, map[string][]byte{"boot/xen.gz": packedXen(x.t, "xen "+code)})
	x.root.InstallKernel(at, oldRelease, version, testbed.BzImage("kernel "+code), []byte("initramfs "+code))
	x.menu("dom0_mem=1G", "root=/dev/sda quiet")
}

func (x *xen) menu(line, dom0 string) {
	x.root.Write("boot/grub/grub.cfg", "menuentry 'Xen' {\n slaunch skinit\n slaunch_module /loader.bin\n multiboot2 /xen.gz "+line+
		"\n module2 /vmlinuz-"+oldRelease+" "+dom0+"\n module2 /initrd.img-"+oldRelease+"\n}\n")
}

func newXen(t *testing.T) *xen {
	t.Helper()
	l := newLaptop(t, tpm.V20, drtm.SKINIT)
	x := &xen{l, testbed.NewDebianRoot(t, l.Loader)}
	l.Root = x.root.Dir
	x.install(time.Now().Add(-48*time.Hour), "1", "1")
	l.boot()
	_, err := l.Init(l.home, l.medium, nil)
	l.must(err)
	l.must(l.SetText(l.home, []byte(sentence)))

	menu, err := aem.BootMenu(x.root.Boot())
	l.must(err)
	files, err := aem.BootOf(menu, &menu.Entries[0], nil)
	l.must(err)
	target, err := files.Target(drtm.SKINIT, tpm.V20, l.Algs)
	l.must(err)
	ms, err := target.Measurements()
	l.must(err)
	log, err := drtm.BuildLog(drtm.SKINIT, tpm.V20, l.Algs, ms)
	l.must(err)
	for i, role := range drtm.Roles(log) {
		if role == drtm.RoleBootInfo { // a machine's holds addresses that nobody here knows
			log.Events[i].Digests = tpm.SumAll(l.Algs, []byte("memory map"))
		}
	}
	replayed := drtm.Replay(log)
	state := seal.State{Label: "Xen", PCRs: tpm.PCRSet(tpm.PCRHost, tpm.PCRCode, tpm.PCRData), Measured: aem.Measured(log)}
	for _, alg := range l.Algs[1:] {
		bank := tpm.Bank{Alg: alg}
		bank.Reset(tpm.PCRSet(tpm.PCRHost), true)
		bank.Values[tpm.PCRCode], bank.Values[tpm.PCRData] = replayed.Value(alg, tpm.PCRCode), replayed.Value(alg, tpm.PCRData)
		state.Values = append(state.Values, bank)
	}
	_, err = l.Seal(l.home, []seal.State{state}, nil)
	l.must(err)
	good := &aem.LaunchLog{Log: log}
	l.must(l.home.KeepLog(good))
	l.must(l.home.LearnForms(&aem.Boot{Log: good}, x.root.Boot()))
	return x
}

// The package has Xen as gzip packed it, and the launch measures what is inside.
func TestPackagesExplainXen(t *testing.T) {
	x := newXen(t)
	x.install(time.Now().Add(-2*time.Second), "2", "2")
	a, err := x.PlanApproval(x.home, x.root.Boot(), "default", nil)
	x.must(err)
	explained := map[string]string{}
	for _, c := range a.Changes {
		explained[c.What] = string(c.Explanation.By) + " " + c.Explanation.Package
	}
	if explained["hypervisor"] != "package xen-hypervisor" || explained["kernel"] != "package linux-image-"+oldRelease || len(explained) != 3 {
		t.Errorf("explained are %v", explained)
	}
	if _, ok := explained["initramfs"]; !ok {
		t.Errorf("the initramfs is not among the changes: %v", explained)
	}
}

// What Xen is told stands in what it is started with, together with addresses. Nobody
// can compute that for other lines or sizes, so nothing is approved for it.
func TestXensLinesAndSizesCanNotBeApproved(t *testing.T) {
	for name, change := range map[string]func(x *xen){
		"Xen's line":         func(x *xen) { x.menu("dom0_mem=2G", "root=/dev/sda quiet") },
		"dom0's line":        func(x *xen) { x.menu("dom0_mem=1G", "root=/dev/sda quiet init=/bin/sh") },
		"a size":             func(x *xen) { x.install(time.Now(), "10", "10") },
		"one module's, less": func(x *xen) { x.root.Write("boot/initrd.img-"+oldRelease, "small") },
	} {
		x := newXen(t)
		change(x)
		_, err := x.PlanApproval(x.home, x.root.Boot(), "default", nil)
		if !errors.Is(err, aem.ErrNotPossible) || !strings.Contains(err.Error(), "multiboot information") {
			t.Errorf("%s changed: %v", name, err)
		}
	}
}
