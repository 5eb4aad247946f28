// Package store keeps what has to survive of guests' TPMs: for each one its key, its
// state and what the manager decided about it, in one file.
//
// Who has the file may copy it, change it and put an older one in its place. So nothing
// in it counts before it was proved. Every record is a leaf of a hash tree; the tree's
// top stands in a root record, authenticated with a key that exists only where the
// machine was launched as approved ([Root]); and the root record carries an epoch,
// which the hardware counter behind the same Root must confirm. A record that was taken away,
// added, exchanged with another guest's or put back from an earlier day is refused and
// named, and never replaced by something fresh.
//
// # What the epoch promises
//
// The hardware counter is written once per epoch and not once per commit: when the store is
// opened, when it is closed, and when the manager calls [Store.NextEpoch]. The file's
// epoch is written before the counter moves, so that the counter is never ahead: the file's epoch
// is the counter's value, or, where the power failed between the two steps, one more,
// and then [Open] makes the second step. An older epoch is [ErrRolledBack], a newer one
// [ErrAhead].
//
// While an epoch lasts, each commit of it is acceptable to that counter. After an orderly
// [Store.Close] exactly one file is. After a crash, whoever copied the file
// during that last epoch can put the copy in place; how far back it leads is
// how long an epoch lasts. A running Store knows its own newest root and takes no other.
//
// # The engine
//
// bbolt keeps the pages and makes a commit survive a power cut: data, fsync, meta page, fsync. It trusts its
// file, though, and a page that refers to itself would end the process in a way
// that no recover catches. So all pages are looked at before bbolt sees them, both meta
// pages must be whole (bbolt alone would go back to the previous commit without a
// word), and faults while it runs become [ErrDamaged].
//
// docs/formats/vtpm-store.md is the byte table.
package store
