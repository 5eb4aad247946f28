// Package txt reads what Intel's Trusted Execution Technology leaves in memory and
// wants on the disk: the public registers, the error code, the heap's four
// tables, the pointers to event logs, and the headers of modules and of launched
// environments (Intel TXT Software Development Guide, document 315168).
//
// All of it can be written by whoever had the machine before, so nothing here
// trusts a size or an offset. The registers themselves are the hardware's, but a
// dump of them is a file as any other.
package txt
