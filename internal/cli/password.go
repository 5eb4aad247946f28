package cli

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
)

// Password reads the first line of a file, - being the standard input; nil where no file is named. The caller
// wipes it.
func Password(path string) ([]byte, error) {
	var in io.Reader = os.Stdin
	switch path {
	case "":
		return nil, nil
	case "-":
	default:
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("read the password: %w", err)
		}
		defer f.Close()
		in = f
	}
	line, err := bufio.NewReaderSize(in, 1024).ReadSlice('\n')
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read the password: %w", err)
	}
	return bytes.TrimRight(line, "\r\n"), nil
}
