package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/antievilmaid/aem/tpm"
)

// reading measures what depends on the size of what is read: long IMA lists, and
// hashing in several banks.
func reading(dir, program string) error {
	for _, mib := range []int{1, 256} {
		list := filepath.Join(dir, fmt.Sprintf("ima-%d", mib))
		if err := writeIMA(list, mib<<20); err != nil {
			return err
		}
		took, mb, err := watched(exec.Command(program, "log", list, "--json"))
		if err != nil {
			return err
		}
		fmt.Printf("| `aem log` of an IMA list of %d MiB: time, peak memory | %.1f s, %.1f MB |\n", mib, took.Seconds(), mb)
	}
	return hashing()
}

// writeIMA writes a list of at least so many bytes: what a system that runs for
// months leaves.
func writeIMA(path string, size int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	for n, written := 0, 0; written < size; n++ {
		name := fmt.Sprintf("/usr/lib/x86_64-linux-gnu/libexample.so.%d\x00", n)
		digest := append([]byte("sha256:\x00"), tpm.SHA256.Sum([]byte(name))...)
		var data []byte
		for _, field := range [][]byte{digest, []byte(name)} {
			data = append(binary.LittleEndian.AppendUint32(data, uint32(len(field))), field...)
		}
		b := append([]byte{10, 0, 0, 0}, tpm.SHA1.Sum(data)...)
		b = append(b, "\x06\x00\x00\x00ima-ng"...)
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(data))), data...)
		written += len(b)
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return w.Flush()
}

// watched runs a command and returns its time and its peak memory.
func watched(cmd *exec.Cmd) (took time.Duration, mb float64, err error) {
	cmd.Stderr = os.Stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case err := <-done:
			return time.Since(start), mb, err
		case <-look.C:
			// A process that ended between two looks keeps its last figure.
			if now, err := peak(cmd.Process.Pid); err == nil {
				mb = max(mb, now)
			}
		}
	}
}
