package doctor

import (
	"fmt"
	"strings"
	"time"

	"github.com/antievilmaid/aem/drtm/skl"
	"github.com/antievilmaid/aem/drtm/txt"
)

// foundModule is a SINIT module among the evidence.
type foundModule struct {
	path   string
	fits   bool
	reason string // why it does not
	*txt.Module
}

// foundLoader is a Secure Kernel Loader among the evidence.
type foundLoader struct {
	path string
	*skl.Block
}

// sortModules takes apart what was found.
func (x *exam) sortModules() {
	for i := range x.Modules {
		m := &x.Modules[i]
		switch _, v := m.parse(); v := v.(type) {
		case *txt.Module:
			f := foundModule{path: m.Path, Module: v}
			if x.regs != nil {
				f.fits, f.reason = v.Fits(x.txtMachine())
			}
			x.sinit = append(x.sinit, f)
		case *skl.Block:
			x.loaders = append(x.loaders, foundLoader{m.Path, v})
		}
	}
}

// txtMachine is what a module must fit.
func (x *exam) txtMachine() txt.Machine {
	m := txt.Machine{FMS: x.signature(), Production: x.regs.Production()}
	m.Vendor, m.Device, m.Revision = x.regs.Chipset()
	if p := x.Firmware.PlatformID; p != nil {
		m.Platform, m.PlatformKnown = uint64(*p), true
	}
	return m
}

// unlooked is the answer where not all of /boot could be looked at.
func (x *exam) unlooked() (finding, bool) {
	if x.Modules != nil && x.Missing[itemModules] == "" {
		return finding{}, false
	}
	return unknown(rootAdvice, "none was found, and not everything could be looked at: %s", x.why(itemModules)), true
}

func (x *exam) sinitModule() finding {
	var fitting, wrong []string
	for _, m := range x.sinit {
		name := fmt.Sprintf("%s of %s", m.path, m.Date())
		if m.fits {
			fitting = append(fitting, name)
		} else {
			wrong = append(wrong, name+": "+m.reason)
		}
	}
	brings := x.heap.BIOS != nil && x.heap.BIOS.SINITSize > 0
	get := "get the SINIT module for this chipset from Intel and put it into /boot"
	if x.regs != nil {
		vendor, device, revision := x.regs.Chipset()
		get = fmt.Sprintf("get the SINIT module for chipset %04x:%04x (revision %#x) and this CPU from Intel, and put it into /boot", vendor, device, revision)
	}
	switch {
	case len(x.sinit) > 0 && x.regs == nil:
		return unknown("", "%d found, and whether one of them fits is not known without the TXT registers", len(x.sinit))
	case len(fitting) > 0:
		return good("%s", strings.Join(fitting, ", "))
	case brings:
		return good("the firmware brings one")
	}
	if f, ok := x.unlooked(); ok {
		return f
	}
	switch {
	case x.launched():
		return warning(get, "this boot was launched, but by no module that lies below /boot")
	case len(wrong) > 0:
		return bad(get, "none of those below /boot fits: %s", strings.Join(wrong, "; "))
	}
	return bad(get, "there is none below /boot, and the firmware brings none")
}

// maxAge is how old a module may get before its row asks for a newer one: by then
// Intel has mended faults of most generations.
const maxAge = 3

func (x *exam) sinitAge() finding {
	var newest *foundModule
	var when time.Time
	for i := range x.sinit {
		m := &x.sinit[i]
		date, err := time.Parse(time.DateOnly, m.Date())
		if m.fits && (newest == nil || err == nil && date.After(when)) {
			newest, when = m, date
		}
	}
	switch {
	case newest == nil:
		return notApplicable("no module that fits was found")
	case when.IsZero():
		return unknown("", "the module's date, %s, is none", newest.Date())
	case when.AddDate(maxAge, 0, 0).Before(x.now):
		return warning("look for a newer one at Intel; older modules have known faults",
			"%s is of %s, more than %d years old", newest.path, newest.Date(), maxAge)
	case when.After(x.now):
		return warning("look at the machine's clock", "%s is of %s, which lies in the future", newest.path, newest.Date())
	}
	return good("%s is of %s", newest.path, newest.Date())
}

func (x *exam) loader() finding {
	if len(x.loaders) > 0 {
		var names []string
		for _, l := range x.loaders {
			names = append(names, fmt.Sprintf("%s, version %d, %d bytes measured", l.path, l.Loader.Version, l.Length))
		}
		return good("%s", strings.Join(names, "; "))
	}
	if f, ok := x.unlooked(); ok {
		return f
	}
	return bad("install the Secure Kernel Loader (skl.bin) into /boot", "there is none below /boot")
}
