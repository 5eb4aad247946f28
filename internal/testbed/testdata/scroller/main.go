// Scroller is a program for the test bed's own tests: it scrolls a text screen
// until the video memory has wrapped round, and stays.
package main

import (
	"fmt"
	"os"
)

func main() {
	for n := range 400 {
		fmt.Printf("\nline %d \u2500\u2510\u2502", n+1)
	}
	os.Stdin.Read(make([]byte, 1))
}
