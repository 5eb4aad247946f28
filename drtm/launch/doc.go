// Package launch is the order in which a launched Linux loads, measures and starts
// what follows it: another Linux, or Xen with its dom0.
//
// The launch that the CPU made ends at the first Linux. It may only go on to
// something else if that was measured before, at locality 2, into the PCRs that the
// launch opened; otherwise these would vouch for a system that is not running any
// more. Who holds the disk tries two things. She gives it files that are not the
// approved ones: then the PCRs get other values, and nothing that was sealed opens.
// And she makes it fail half-way, after the PCRs have the values that open
// something, or while they still can be brought there. So whatever fails, at
// whatever step, PCRs 17 and 18 are capped: extended with something that belongs to
// no approved state. [Machine.Launch] is that order.
//
// Description is the small file that says what to start, where it is not a menu
// entry. The package is bytes in, values out: who reads files, opens the TPM and
// speaks to the kernel gives it the means.
package launch
