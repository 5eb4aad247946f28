package drtm

import (
	"errors"
	"fmt"
	"slices"

	"github.com/antievilmaid/aem/eventlog"
)

// ErrUnexplained says that a log has events that can't be recomputed for other
// files. Nothing is predicted then: a guess would be sealed to.
var ErrUnexplained = errors.New("the log of the good launch can't be recomputed for other files")

// Rebase computes the log of a future launch: that of a good one, with other
// files. What the firmware, SINIT or the loader measured of themselves is kept;
// what depends on the kernel, the initramfs and the command line is recomputed
// in each bank. A bank that holds a placeholder keeps it.
//
// It covers Linux launches. Whether a machine's loader measures files as
// [LinuxLaunch] does is learned by rebasing first onto the files that booted:
// the result must replay to the same PCRs.
func Rebase(good *eventlog.Log, kernel, initrd []byte, commandLine string) (*eventlog.Log, error) {
	if good == nil || len(good.Events) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrUnexplained)
	}
	params, err := BootParams(kernel)
	if err != nil {
		return nil, err
	}
	content := map[Role][]byte{
		RoleKernel:      kernel,
		RoleEntryOffset: entryOffset(kernel),
		RoleBootParams:  params,
		RoleCommandLine: []byte(commandLine),
	}
	if initrd != nil {
		content[RoleInitrd] = initrd
	}
	roles := Roles(good)
	if err := rebaseable(good, roles, initrd != nil); err != nil {
		return nil, err
	}
	next := *good.WithoutLoggedResult()
	next.Events = slices.Clone(next.Events)
	for i, r := range roles {
		if c, ok := content[r]; ok {
			if err := rehash(&next.Events[i], c); err != nil {
				return nil, err
			}
		}
	}
	return &next, nil
}

// rebaseable demands one event for each file, and none without an explanation.
func rebaseable(good *eventlog.Log, roles []Role, initrd bool) error {
	count := map[Role]int{}
	for i, r := range roles {
		e := &good.Events[i]
		switch {
		case !launchPCRs.Has(e.PCR) || !e.Type.Extended():
			continue
		case r == RoleUnknown, r == RoleHypervisor, r == RoleTboot, r == RoleBootInfo:
			return fmt.Errorf("%w: its event %d, PCR %d, measured %s", ErrUnexplained, i, e.PCR, r)
		}
		count[r]++
	}
	for _, r := range []Role{RoleKernel, RoleBootParams, RoleCommandLine} {
		if count[r] != 1 {
			return fmt.Errorf("%w: it has %d events for the %s, where there should be one", ErrUnexplained, count[r], r)
		}
	}
	if has := count[RoleInitrd] == 1; has != initrd {
		if initrd {
			return fmt.Errorf("%w: it was without an initramfs", ErrUnexplained)
		}
		return fmt.Errorf("%w: it had an initramfs, and now there is none", ErrUnexplained)
	}
	return nil
}

// rehash replaces an event's digests by those of other content.
func rehash(e *eventlog.Event, content []byte) error {
	digests := slices.Clone(e.Digests)
	for i, d := range digests {
		switch {
		case eventlog.IsPlaceholder(d.Digest):
		case d.Alg.Available():
			digests[i].Digest = d.Alg.Sum(content)
		default:
			return fmt.Errorf("%w: digests for its %s bank can't be computed here", ErrUnexplained, d.Alg)
		}
	}
	e.Digests = digests
	return nil
}
