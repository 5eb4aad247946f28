// Package ui is what a person sees and answers. It knows no TPM and imports
// nothing of this module: a caller fills in plain structures and gets plain
// answers.
//
// Five rules hold on every screen. The secret alone is the proof; whatever else
// the machine prints about itself is labelled a hint, because a changed machine can
// print it too. A refusal looks different from a proof at a glance, without
// colour. Nothing but a deliberate answer leads on: no time-out, no lost
// connection, no Ctrl-C. What stands in a log or a secret can do nothing to the
// terminal. And when a screen is left, nothing of it stays there.
//
// A secret is drawn as text, and the runtime's copies of text can't be wiped; a
// program that shows one should end soon after.
package ui
