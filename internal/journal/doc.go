// Package journal keeps what was set up, sealed, approved, opened and refused on a
// machine: a file that only grows, and in which a change of anything old shows.
//
// The journal is the file "journal" in a folder. It has one JSON object in each
// line, and nothing but the bytes from space to tilde and line feeds, so that it can
// be shown on any terminal as it is:
//
//	{"n":0,"format":"anti-evil-maid journal","version":1,"id":"9f0c..."}
//	{"n":1,"prev":"a3b1...","time":"2026-03-01T09:14:00Z","kind":"set-up","text":"..."}
//	{"n":2,"prev":"77d0...","time":"2026-03-01T09:14:07Z","kind":"sealed","generation":1,"text":"...","details":{"medium":"..."}}
//
// n counts the lines, and prev is the SHA-256 of the line before with its line
// feed, as sed -n 2p journal | sha256sum shows it. The id in the first line is
// random, so that no two journals have a line in common. A line has exactly one
// form: members in the order above and without spaces, generation, text and details
// left out when they are empty, details sorted, and in strings everything outside of
// ASCII and all control characters as \uXXXX. Whoever reads a line with a doubled
// member must not see something else than whoever checked it.
//
// # What the chain shows and what it does not
//
// Whoever may write to the file can also write a new one, with a chain that is right,
// or cut the last lines off, and nothing in the file would tell. So [Journal.Head], 40
// bytes, is kept in a place that this person can't write to, such as a TPM's NV
// memory or a sealed record, and [Journal.VerifyAgainst] compares: everything up to
// that head is then as it was, or the difference is named. What came after the head
// was kept is only as good as the file.
//
// # Power cuts
//
// A line is written at once and is on the disk when [Journal.Append] returns. A power
// cut in between leaves a torn last line: one without its line feed, or with zero
// bytes where a block did not reach the disk. It is no entry. The next Append moves
// it to a file of its own, journal.NUMBER.SUM.torn, and writes down that it did so.
package journal
