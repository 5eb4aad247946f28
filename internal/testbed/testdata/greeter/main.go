// Greeter is a program for the test bed's own tests: it proves that a guest's
// program has a terminal, with a size, that a person can type at.
package main

import (
	"bufio"
	"fmt"
	"os"

	"golang.org/x/term"
)

func main() {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		fmt.Println("no controlling terminal:", err)
		os.Exit(1)
	}
	columns, rows, err := term.GetSize(int(tty.Fd()))
	fmt.Fprintf(tty, "terminal %s, %d rows, %d columns (%v)\n", os.Getenv("TERM"), rows, columns, err)
	fmt.Fprint(tty, "Who are you? ")
	keys := bufio.NewReader(tty)
	name, _ := keys.ReadString('\n')
	fmt.Fprint(tty, "Hello, "+name)
	if err := os.WriteFile("/mnt/name", []byte(name), 0o600); err != nil {
		fmt.Println(err)
	}
	if len(os.Args) > 1 && os.Args[1] == "stay" {
		keys.ReadString('\n')
	}
	os.Exit(4)
}
