// Package aem holds what an owner does with the machine: let it prove itself
// before a passphrase is typed, learn why it did not, and seal what the proof
// rests on.
//
// It joins the rooms below: package drtm says what was launched, package seal
// opens the record, this package decides what that means, in sentences. It draws
// nothing and asks nothing itself; cmd/aem and cmd/aem-setup join it to package ui.
//
// One boot goes like this. [Machine.Prove] reads the PCRs, judges the launch,
// picks the medium's record and opens it. The owner recognises the secret and
// confirms. [Machine.Cap] then extends a PCR of the policy, so that nothing that
// runs later in this boot can open the record again, with a text that says what the
// proof came to: [Machine.Outcome] finds that out in the running system. Every refusal is a [Refusal]
// with its own sentence, its own advice and its own exit code.
package aem
