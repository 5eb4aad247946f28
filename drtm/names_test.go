package drtm_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/tpm"
)

// One name may not stand for two links of a chain.
func TestNamesTellTheLinksApart(t *testing.T) {
	first := launch(drtm.SKINIT, tpm.V20)
	for name, x := range map[string]struct {
		stage *drtm.Stage
		want  []string // of the stage
	}{
		"linux": {&drtm.Stage{Kind: drtm.Linux, Image: []byte("k"), Initrd: []byte("i")},
			[]string{"next stage's outline", "kernel", "kernel command line", "initramfs"}},
		"xen": {&drtm.Stage{Kind: drtm.Xen, Image: []byte("x"), Modules: []drtm.Module{{Content: []byte("k")}, {Content: []byte("i")}, {Content: []byte("m")}}},
			[]string{
				"next stage's outline", "hypervisor", "hypervisor's command line", "dom0's kernel command line", "dom0's kernel",
				"boot module's command line", "dom0's initramfs", "boot module's command line", "boot module",
			}},
	} {
		ms, err := drtm.ChainLaunch{First: first, Algs: first.Algs, Stage: x.stage}.Measurements()
		if err != nil {
			t.Fatal(err)
		}
		log, err := drtm.BuildLog(first.Platform, first.Version, first.Algs, ms)
		if err != nil {
			t.Fatal(err)
		}
		names := drtm.Names(log)
		if diff := cmp.Diff(x.want, names[len(names)-len(x.want):]); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
		for _, one := range []string{"stage 1's kernel", "stage 1's initramfs", "stage 1's kernel command line"} {
			if !slices.Contains(names, one) {
				t.Errorf("%s: no event is %s: %q", name, one, names)
			}
		}
	}
	alone := measurements(t, first)
	log, err := drtm.BuildLog(first.Platform, first.Version, first.Algs, alone)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range drtm.Roles(log) {
		if got := drtm.Names(log)[i]; got != r.String() {
			t.Errorf("without a stage %q is called %q", r, got)
		}
	}
}
