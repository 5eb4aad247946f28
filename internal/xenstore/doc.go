// Package xenstore speaks to xenstored, the directory in which Xen's domains and their
// toolstack tell each other what they want: a tree of small values, with watches that say
// what changed, transactions and permissions (Xen's docs/misc/xenstore.txt and the public
// header io/xs_wire.h).
//
// A path that does not begin with a slash is relative to the own domain's
// /local/domain/<number>/, so that a backend need not know which domain it runs in. What stands below
// another domain's own directories may have been written by that domain.
package xenstore
