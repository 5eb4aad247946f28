package livelog

import (
	"encoding/binary"
	"fmt"

	"github.com/antievilmaid/aem/internal/physmem"
)

var le = binary.LittleEndian

// memory opens the machine's memory when it is first needed: a machine that shows
// its log in a file is spared the attempt.
type memory struct {
	opened bool
	m      physmem.Memory
	err    error
	device *physmem.Device // to close; nil where the memory was given
}

// read copies size bytes from an address.
func (s *search) read(address, size uint64) ([]byte, error) {
	mem := &s.memory
	if !mem.opened {
		mem.opened, mem.m = true, s.machine.Memory
		if mem.m == nil {
			if mem.device, mem.err = physmem.Open(s.machine.Root); mem.err == nil {
				mem.m = mem.device
			}
		}
	}
	if mem.err != nil {
		return nil, mem.err
	}
	return physmem.Read(mem.m, address, size)
}

func (s *search) close() {
	if s.memory.device != nil {
		s.memory.device.Close()
	}
}

// addMemory takes the log that a source says to lie in memory.
func (s *search) addMemory(f Found, address, size uint64) {
	if size > MaxLog {
		s.skip(f.Source, f.Name, fmt.Errorf("it claims %d bytes, more than any launch leaves", size))
		return
	}
	var err error
	if f.Bytes, err = s.read(address, size); err != nil {
		s.skip(f.Source, f.Name, err)
		return
	}
	f.Address = address
	s.add(f)
}
