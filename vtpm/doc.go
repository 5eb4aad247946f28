// Package vtpm gives guests TPMs of their own, whose secrets exist only on a machine
// that was launched as approved.
//
// It holds the words that its rooms share, and the [Keeper] that joins them: vtpm/store
// keeps what has to survive (keys, states, the tree that proves them to be the newest),
// vtpm/emulator runs one swtpm for each guest, vtpm/measure says what a guest
// starts with, vtpm/xen, vtpm/qemu and vtpm/vtpmx are the ways on which guests' commands arrive.
//
// Everything that a guest sends is hostile: any bytes, at any time. Everything on the
// disk is, too, until the store has proved it.
package vtpm
