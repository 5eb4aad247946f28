// Probe looks for a launch's log in a guest of the test bed, through the guest's own
// /dev/mem. An argument is the address at which the guest's shared memory is to
// appear first, in place of registers that the emulator lacks.
package main

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/antievilmaid/aem/internal/livelog"
	"github.com/antievilmaid/aem/internal/physmem"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println("PROBE broken:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 {
		address, err := strconv.ParseUint(args[0], 0, 32)
		if err != nil {
			return err
		}
		if err := moveSharedMemory(uint32(address)); err != nil {
			return err
		}
	}
	// Where the program runs is not where the machine's files are.
	if err := os.Chdir("/run"); err != nil {
		return err
	}
	var m livelog.Machine
	if r, err := livelog.Registers(m); err != nil {
		fmt.Printf("PROBE registers: no TXT %t: %v\n", errors.Is(err, livelog.ErrNoTXT), err)
	} else {
		fmt.Printf("PROBE registers: %s, heap at %#x\n", r.Status(), r.HeapBase)
	}
	launch, _, skipped := livelog.Find(m)
	for _, f := range launch {
		fmt.Printf("PROBE found %s: %x\n", f.Name, sha256.Sum256(f.Bytes))
	}
	for _, s := range skipped {
		if !s.Absent {
			fmt.Printf("PROBE skipped %s: %s\n", s.Name, s.Reason)
		}
	}
	const ordinary = 64 << 20
	d, err := physmem.Open("/")
	if err == nil {
		_, err = physmem.Read(d, ordinary, 16)
	}
	fmt.Printf("PROBE ordinary memory: refused %t: %v\n", errors.Is(err, physmem.ErrRefused), err)
	return nil
}

// moveSharedMemory sets the address of the shared memory of the test bed's device,
// in the second base address register of its PCI configuration.
func moveSharedMemory(address uint32) error {
	const vendor, device = "0x1af4", "0x1110"
	devices, err := filepath.Glob("/sys/bus/pci/devices/*")
	if err != nil {
		return err
	}
	for _, dev := range devices {
		v, _ := os.ReadFile(filepath.Join(dev, "vendor"))
		d, _ := os.ReadFile(filepath.Join(dev, "device"))
		if strings.TrimSpace(string(v)) != vendor || strings.TrimSpace(string(d)) != device {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dev, "config"), os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		const command, bar2 = 0x04, 0x18
		const answerMemory = 2
		for _, w := range []struct {
			at    int64
			value []byte
		}{
			{command, []byte{0, 0}},
			{bar2, binary.LittleEndian.AppendUint64(nil, uint64(address))},
			{command, []byte{answerMemory, 0}},
		} {
			if _, err := f.WriteAt(w.value, w.at); err != nil {
				return err
			}
		}
		return nil
	}
	return errors.New("the guest has no shared memory")
}
