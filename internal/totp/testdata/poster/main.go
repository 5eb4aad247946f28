// Poster is a program for this package's tests: it puts a file on a cleared
// screen and stays.
package main

import (
	"fmt"
	"os"
)

func main() {
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Stdout.WriteString("\x1b[H\x1b[2J")
	os.Stdout.Write(text)
	os.Stdout.WriteString("posted")
	os.Stdin.Read(make([]byte, 1))
}
