package bootentry_test

import (
	"testing"

	"github.com/antievilmaid/aem/internal/bootentry"
)

// An entry may offer one module after the other until one fits. All of them may be
// what is launched; what else is loaded must not depend on that.
func TestModulesThatAreOfferedInTurn(t *testing.T) {
	chain := "if slaunch_module /m1; then true; elif slaunch_module /m2; then true; elif slaunch_module /sinit.bin; then true; else echo none; fi"
	for name, body := range map[string]string{
		"in turn":   "slaunch; linux /k; initrd /i1; " + chain,
		"guarded":   "if slaunch; then linux /k; initrd /i1; " + chain + "; else echo no; fi",
		"all three": "slaunch; linux /k; initrd /i1; slaunch_module /m1; slaunch_module /m2; slaunch_module /sinit.bin",
	} {
		t.Run(name, func(t *testing.T) {
			e := entry(t, body)
			if e.Err != nil {
				t.Fatal(e.Err)
			}
			same(t, "launch", true, e.Slaunch)
			same(t, "kernel", "/k", e.Kernel.Path)
			same(t, "modules", []module{{"/m1", "", ""}, {"/m2", "", ""}, {"/sinit.bin", "", ""}}, modules(e.SlaunchModules...))
		})
	}
	e := entry(t, "slaunch; if slaunch_module /m1; then linux /k; else linux /k2; fi")
	refused(t, e.Err, "whether a launch module fits this machine")
	same(t, "kind", bootentry.Nothing, e.Kind)
	e = entry(t, "slaunch; linux /k; if slaunch_module /m1; then slaunch_module /m2; else slaunch_module /sinit.bin; fi")
	refused(t, e.Err, "whether a launch module fits this machine")
}

// A function may say what happens in a GRUB without the command, which comes first.
func TestFunctionForAGRUBWithoutSlaunch(t *testing.T) {
	e := configured(t, "function slaunch { echo none; return 1; }\nmenuentry only { if slaunch; then linux /k; else linux /k2; fi }\n")
	if e.Err != nil {
		t.Fatal(e.Err)
	}
	same(t, "kernel", []any{"/k", true}, []any{e.Kernel.Path, e.Slaunch})
}
