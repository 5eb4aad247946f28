// Package luks reads the headers of LUKS1 and LUKS2 volumes and says in one digest what
// counts in them. The digest goes into PCR 13 before anybody types a passphrase, so that a
// header that was changed meanwhile keeps the machine's secret shut.
//
// # What an evil maid does with a header
//
// She writes back last year's header, whose passphrase she saw typed, and which was changed
// since. She puts a volume of her own in place of the owner's: one whose key slots are
// encrypted with cipher_null opens with any passphrase, and one whose data are keeps nothing
// secret (CVE-2025-59054). She writes that the volume is being decrypted, and cryptsetup
// carries that out at the owner's next login (CVE-2021-4122). She has read the volume key
// out of a machine that was left unlocked, and adds a key slot. She takes the security key's
// token away or hides a slot, so that the owner brings out the recovery passphrase. Every
// one of these is a change of the header.
//
// # What is measured
//
// Everything that cryptsetup reads when it opens the volume, and nothing that it writes by
// itself. The Qubes project's anti-evil-maid hashes luksHeaderBackup, so a sequence number
// that went up breaks it. Here the header is parsed, and [Header.Canonical] writes down
// what it says, one fact on each line. Whatever is not known to be harmless counts, members
// that this package has never heard of included. The format, and for each field the reason
// for its being there or not, is in docs/formats/luks-measurement.md.
//
// # Two readers, one header
//
// The measurement is worth something only if cryptsetup opens what was measured. Both read
// the same bytes, but json-c takes comments, two members of one name, single quotes and
// numbers as strings, and the library tries a second copy of the header where it does not
// like the first. So this reader is strict where cryptsetup is lenient: it refuses what
// cryptsetup never writes, rather than guess how it would be read. And it falls back to
// the other copy only where it is certain that cryptsetup does too, which is where magic,
// offset, size or checksum are wrong. A copy with a good checksum that is not understood
// here is an error, never a reason to look elsewhere.
//
// A disk that answers differently the second time it is read is noticed only by opening the
// volume with a copy of its header that was measured: see [Header.Length].
package luks
