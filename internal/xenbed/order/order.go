// Package order is what a test and dom0 say to each other over a virtio port: JSON, one
// value for each order and one for what it came to. The first result comes unasked and says that
// dom0 is up.
package order

// Order is a program that dom0 is to run; without one, dom0 ends.
type Order struct {
	Args  []string `json:"args"`
	In    string   `json:"in,omitempty"`    // its standard input
	Quiet bool     `json:"quiet,omitempty"` // what it prints is not for the machine's console
}

// Result is how it ended.
type Result struct {
	Exit    int     `json:"exit"` // 127 where it did not start
	Out     string  `json:"out"`  // both outputs
	Seconds float64 `json:"seconds"`
}
