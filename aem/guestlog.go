package aem

import (
	"fmt"
	"strings"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/xenlog"
	"github.com/antievilmaid/aem/internal/xenstore"
	"github.com/antievilmaid/aem/tpm"
)

// GuestLog reads, in a guest of Xen's, what the host's vtpmd told the guest's TPM of its start. path
// is where xenstore is reached, mostly [xenstore.Device].
func GuestLog(path string) (*LaunchLog, error) {
	c, err := xenstore.DialPath(path)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	b, err := xenlog.Read(c)
	if err != nil {
		return nil, err
	}
	l := parseLog(b, "xenstore, by the host's vtpmd")
	l.OfGuest = true
	return l, nil
}

// What vtpmd's events begin with (docs/formats/vtpm-measurements.md), and how a person names them.
const hostState = "aem vtpm host "

var guestEvents = []struct {
	pcr          tpm.PCR
	prefix, name string
}{
	{tpm.PCRCode, hostState, "the host's launch"},
	{tpm.PCRData, "aem vtpm guest ", "the guest's start"},
	{1, "guest configuration", "the guest's configuration"},
	{4, "guest kernel", "the guest's kernel"},
	{5, "guest command line", "the guest's command line"},
	{5, "guest initrd", "the guest's initramfs"},
	{5, "aem vtpm: no initrd", "no initramfs"},
}

// GuestEvents names the events of a log of a guest's, as [drtm.Names] does a launch's. A name
// is taken from the event's text, so it is hearsay.
func GuestEvents(log *eventlog.Log) []string {
	names := make([]string, len(log.Events))
	for i := range log.Events {
		e := &log.Events[i]
		switch text := string(e.Data); {
		case strings.HasPrefix(text, "aem vtpm: unmeasured guest"):
			names[i] = "not measured"
		case strings.HasPrefix(text, fmt.Sprintf("host PCR %d\n", e.PCR)):
			names[i] = fmt.Sprintf("the host's PCR %d", e.PCR)
		}
		for _, g := range guestEvents {
			if e.PCR == g.pcr && strings.HasPrefix(string(e.Data), g.prefix) {
				names[i] = g.name
			}
		}
	}
	return names
}

// toldByHost reports whether a log's launch is one that a host's vtpmd told a guest of.
func toldByHost(log *eventlog.Log) bool {
	for i := range log.Events {
		if e := &log.Events[i]; e.PCR == tpm.PCRCode && e.Extended() {
			return e.Type == eventlog.Action && strings.HasPrefix(string(e.Data), hostState)
		}
	}
	return false
}

// GuestBoot holds the log of a guest's start against the guest's TPM: PCRs 17 and 18, and each other that it has
// events for. Where the guest began with a firmware, that has extended those others, too, and has
// a log of its own.
//
// It is verified where all agree and the host was launched: the guest can extend PCRs 1, 4 and 5, but 17
// and 18 neither reset nor extend.
func (m *Machine) GuestBoot(l *LaunchLog) (*Boot, error) {
	set := launchPCRs
	for i := range l.Log.Events {
		e := &l.Log.Events[i]
		if e.PCR == tpm.PCRData && e.Type == eventlog.Action && strings.Contains(string(e.Data), "\nstart firmware\n") {
			set = launchPCRs
			break
		}
		if e.Extended() {
			set |= tpm.PCRSet(e.PCR)
		}
	}
	pcrs, err := m.Chip.ReadPCRs(set)
	if err != nil {
		return nil, err
	}
	b := &Boot{PCRs: pcrs, Log: l}
	b.Launch.Report = l.Log.Verify(pcrs, set, l.Log.Launched())
	b.Launch.State, b.Launch.Reason = judgeGuest(l, b.Launch.Report)
	return b, nil
}

func judgeGuest(l *LaunchLog, report eventlog.Report) (drtm.State, string) {
	switch {
	case l.Broken != nil:
		return drtm.Unproven, l.Broken.Error()
	case !report.OK():
		return drtm.Unproven, "the log does not lead to what the TPM holds"
	case !toldByHost(l.Log):
		return drtm.NotLaunched, "the log agrees with the TPM, and says nothing of a launch: the host was not launched, or its vtpmd does not rest on that"
	}
	for i := range l.Log.Events {
		// What these say is measured itself.
		e := &l.Log.Events[i]
		for _, d := range e.Digests {
			if e.Type == eventlog.Action && !d.Digest.Equal(d.Alg.Sum(e.Data)) {
				return drtm.Unproven, fmt.Sprintf("the text of the log's event for PCR %d is not what was measured", e.PCR)
			}
		}
	}
	return drtm.Verified, ""
}
