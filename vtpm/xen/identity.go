package xen

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/vtpm"
)

// place is where a device stands: the domain that it is for, and the device's number
// there. It is the same in the paths of backend, frontend and toolstack.
type place struct{ domain, device uint32 }

// lastDomain is the last number that a guest can have (DOMID_FIRST_RESERVED of public/xen.h, less one).
const lastDomain = 0x7fef

// parsePlace reads the two parts of a path.
func parsePlace(domain, device string) (place, error) {
	d, err := number(domain)
	if err == nil && d > lastDomain {
		err = fmt.Errorf("%d is not the number of a domain", d)
	}
	n, err2 := number(device)
	return place{d, n}, errors.Join(err, err2)
}

// number reads a number as the toolstack and the frontends write it.
func number(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || strconv.FormatUint(n, 10) != s {
		return 0, fmt.Errorf("%.20q is not a number", s)
	}
	return uint32(n), nil
}

// backend is the device's directory that only we and the toolstack write.
func (p place) backend() string { return fmt.Sprintf("%s/%d/%d", root, p.domain, p.device) }

// frontend is the device's directory that the guest writes.
func (p place) frontend() string {
	return fmt.Sprintf("/local/domain/%d/device/vtpm/%d", p.domain, p.device)
}

// toolstack is where libxl keeps what it gave to both for itself.
func (p place) toolstack() string {
	return fmt.Sprintf("/libxl/%d/device/vtpm/%d", p.domain, p.device)
}

// guest says who is at a place. What it reads, no guest can write.
func (b *Backend) guest(p place) (vtpm.Guest, error) {
	want := map[string]string{"frontend-id": fmt.Sprint(p.domain), "frontend": p.frontend()}
	got := map[string]string{}
	for _, key := range []string{"frontend-id", "frontend", "uuid"} {
		v, err := b.Store.Read(p.backend() + "/" + key)
		if err != nil {
			return vtpm.Guest{}, err
		}
		if w, ok := want[key]; ok && v != w {
			return vtpm.Guest{}, fmt.Errorf("the toolstack's %s is %.80q where %q belongs: the device is not this domain's", key, v, w)
		}
		got[key] = v
		own, err := b.Store.Read(p.toolstack() + "/" + key)
		switch {
		case errors.Is(err, os.ErrNotExist), errors.Is(err, os.ErrPermission): // another toolstack, or we are not in its domain
		case err != nil:
			return vtpm.Guest{}, err
		case own != v:
			return vtpm.Guest{}, fmt.Errorf("the backend's %s is %.80q and the toolstack's own copy of it %.80q: one was changed", key, v, own)
		}
	}
	u, err := vtpm.ParseUUID(got["uuid"])
	if err != nil {
		return vtpm.Guest{}, err
	}
	g := vtpm.Guest{UUID: u, Domain: fmt.Sprintf("xen:%d", p.domain), Returns: true}
	g.Birth, g.Late = b.birth(p)
	return g, nil
}

// birth names this life of a domain, and says whether the domain had begun it when it got its vTPM.
//
// The number of a domain is another one after each reboot, until the numbers begin anew: after 32751
// domains, or with the host. So the host's boot and the time of building belong to it.
//
// The toolstack builds a guest paused, attaches its devices and then lets it go: whoever is paused
// and never had a processor has run nothing. Xen is asked, because all that xenstore says of it a guest that
// runs could have changed. Where Xen gives no answer, the guest counts as late: what it
// started with is then not known. A guest that a manager before us served has run, too: it finds the vTPM
// that it had, whatever is said here of a new one, or none.
func (b *Backend) birth(p place) (name string, late bool) {
	vm, _ := b.Store.Read(fmt.Sprintf("/local/domain/%d/vm", p.domain)) // /vm/<handle>; the guest can't write it
	built, _ := b.Store.Read(vm + "/start_time")
	name = fmt.Sprintf("%s/%d/%s/%s", b.Boot, p.domain, strings.TrimPrefix(vm, "/vm/"), built)

	d, err := b.Ask(p.domain)
	if err == nil && vm != "/vm/"+vtpm.UUID(d.Handle).String() {
		err = fmt.Errorf("it says that the domain is %v, and xenstore says %.80q: %w", vtpm.UUID(d.Handle), vm, unix.EPROTO)
	}
	if err != nil {
		b.Log.Warn("whether the domain has run before its vTPM came can't be told, so it counts as unmeasured", "domain", p.domain, "because", err)
		return name, true
	}
	return name, d.Ran()
}
