// Package packages asks the records of a machine's package manager what they say
// about a file: which package it belongs to, whether it is as that package brought it,
// and when it was changed last.
//
// It is for one question: can an owner who says "approve what the updates did" be
// spared the details? What the records say stands on the root file system, which
// somebody who had the machine in his hands could not write to if it is encrypted, while
// he could write to an unencrypted /boot. So a kernel in /boot whose checksum is the
// recorded one is the kernel that was installed. The records say nothing against
// somebody who was root while the system ran: he could write to them too. And a package
// that is explained is not a package that is good.
//
// # What is compared
//
// dpkg keeps an MD5 sum of each file. To put another file in the place of a given one,
// an attacker needs a second preimage of MD5, which nobody can find; two files with
// one sum, which can be found, help only those who make the package. rpm keeps SHA-256.
//
// An initrd is made on the machine, so no package knows its content. All that can be
// said is that it was written while the package manager had one made, and which
// packages changed. That explains why there is a new one, not what is in it: see
// [Explanation.Generated].
package packages
