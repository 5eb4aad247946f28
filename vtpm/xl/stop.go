package xl

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/antievilmaid/aem/vtpm"
)

// Stop ends a guest of Xen's, by its name, its domain's number or its vTPM's UUID: it is asked
// to shut down, and its power is cut after patience. It returns when its vTPM is shut
// down, too.
func (s *Starter) Stop(ctx context.Context, guest string, patience time.Duration, tell func(string)) error {
	running := s.Manager.Running()
	var waitFor []vtpm.UUID
	if u, err := vtpm.ParseUUID(guest); err == nil {
		r, ok := running[u]
		if !ok {
			return fmt.Errorf("no guest uses the vTPM %s", u)
		}
		number, isXen := strings.CutPrefix(r.Guest.Domain, "xen:")
		if !isXen {
			return fmt.Errorf("the guest %s is not one of Xen's; stop it where it was started", r.Guest.Domain)
		}
		guest, waitFor = number, []vtpm.UUID{u}
	} else if _, err := strconv.ParseUint(guest, 10, 15); err == nil {
		for u, r := range running {
			if r.Guest.Domain == "xen:"+guest {
				waitFor = append(waitFor, u)
			}
		}
	}
	if guest == "" || strings.HasPrefix(guest, "-") {
		return fmt.Errorf("%q is not the name of a guest", guest)
	}
	var gone []<-chan struct{}
	for _, u := range waitFor {
		gone = append(gone, s.Manager.Gone(u))
	}
	tell("asking " + guest + " to shut down")
	asked := make(chan error, 1)
	go func() { asked <- s.xl(nil, "shutdown", "-w", guest) }()
	select {
	case err := <-asked:
		if err != nil {
			return err
		}
	case <-time.After(patience):
		tell(fmt.Sprintf("it did not shut down in %s; cutting its power", patience))
		if err := s.xl(nil, "destroy", guest); err != nil {
			return err
		}
		<-asked
	case <-ctx.Done():
		return fmt.Errorf("wait for %s to shut down: %w", guest, ctx.Err())
	}
	for _, g := range gone {
		select {
		case <-g:
		case <-ctx.Done():
			return fmt.Errorf("the guest has ended, and its vTPM not yet: %w", ctx.Err())
		}
	}
	return nil
}
