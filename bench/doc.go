// Package bench compares package eventlog with the libraries and the program
// that others read measurement logs with: what each accepts, what it replays to,
// and how long it takes.
//
// It is a module of its own so that nothing here becomes a dependency of the
// programs that run on somebody's machine.
package bench
