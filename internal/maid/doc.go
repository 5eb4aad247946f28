// Package maid plays the evil maid: everything that the threat model says she may
// try, one test a line, on emulated TPMs of both families.
//
// Each line of the table in deeds_test.go is a deed. For each deed a fresh copy of
// a machine is taken that its owner has set up, with two encrypted disks. She does
// what the line says while it is off; it is switched on, launched and asked to prove
// itself. It must refuse, for the cause that the line names and no other, and say
// what she changed. Then her deed is undone, and the machine must show its owner's
// secret again: nothing that she did to it, and nothing that it did about her, may
// have cost anything.
//
// What really happened is written to build/evil-maid.txt, never what the lines
// demand. make maid prints it, and docs/threat-model.md shows it.
//
// There is nothing here but tests.
package maid
