// Package xen gives Xen's guests their vTPMs: it is the backend of the split driver whose
// frontends are Linux's xen-tpmfront and mini-os's tpmfront. A guest shares one page with
// us and an event channel to ring at each other (Xen's public header io/tpmif.h, version
// 2 of the interface); xenstore says who wants which vTPM and how far both ends are.
//
// Who is who stands in the backend's own directory, backend/vtpm/<domain>/<device>, which the toolstack
// writes and the guest can only read. Of what the guest can write (its page, its own
// directory in xenstore) nothing is believed, and nothing is read twice. Each guest has a goroutine of
// its own, which alone touches its page: whatever a guest does, it does to itself.
//
// A vTPM is attached before the toolstack is told that the backend is there. So where there is
// none to be had, xl create fails at once, and why stands in the log and in
// error/backend/vtpm/<domain>/<device>/error, where Linux's own backends write theirs.
package xen
