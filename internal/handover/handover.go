// Package handover carries an emulated launch's event log into the guest.
//
// On a machine, firmware or boot loader leave the log in reserved memory. An
// emulated machine has no such memory, so drtmsim writes the log into a file
// which QEMU shows to the guest as the memory of a PCI device ("ivshmem"). One
// writer, the simulator, and one reader, the guest, use the same layout; the
// guest treats the contents as foreign bytes, as it would treat a real log.
//
// All integers are little-endian:
//
//	 0  16  magic, "AEM drtmsim v1" and two zero bytes
//	16   4  generation: grows with every reset and every launch
//	20   4  platform: 0 not launched, 1 Intel TXT, 2 AMD SKINIT
//	24   4  offset of the log, 0 where there is none
//	28   4  length of the log, 0 where there is none
//	32      zeros up to 4096, then the log's area up to the file's end
package handover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/antievilmaid/aem/drtm"
)

// Sizes of the shared memory, in bytes. ivshmem demands a power of two.
const (
	DefaultSize = 64 << 10
	MinSize     = 8 << 10
	MaxSize     = 16 << 20
)

const (
	magic      = "AEM drtmsim v1\x00\x00"
	headerSize = 32
	logStart   = 4096
)

// ErrNone says that there is no hand-over: the guest was started without one.
var ErrNone = errors.New("no emulated launch was handed over to this machine")

// Handover is what the simulator tells the guest.
type Handover struct {
	// Generation grows with every reset and launch, so that a reader can
	// tell whether it saw the present one.
	Generation uint32
	// Platform is zero where there was no launch since the last reset.
	Platform drtm.Platform
	// Log is the event log, as the platform would leave it; nil where there is none.
	Log []byte
}

// CheckSize says whether shared memory of that many bytes can be used.
func CheckSize(size int64) error {
	if size < MinSize || size > MaxSize || size&(size-1) != 0 {
		return fmt.Errorf("a hand-over of %d bytes is not possible; a power of two between %d and %d is", size, MinSize, MaxSize)
	}
	return nil
}

// Create makes the file that QEMU and the simulator share, all zeros. A file
// that exists is used again, because a running QEMU may have it mapped.
func Create(path string, size int64) (*os.File, error) {
	if err := CheckSize(size); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the hand-over file: %w", err)
	}
	// Never shrink: QEMU would get SIGBUS where it has the lost part mapped.
	info, err := f.Stat()
	if err == nil && info.Mode().IsRegular() && info.Size() < size {
		err = f.Truncate(size)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("give the hand-over file its size: %w", err)
	}
	return f, nil
}

// Write writes h into the file. The header is made invalid first, so a guest
// that reads meanwhile finds nothing rather than half of it.
func Write(f *os.File, size int64, h Handover) error {
	if room := size - logStart; int64(len(h.Log)) > room {
		return fmt.Errorf("the launch's log of %d bytes does not fit the hand-over, which has room for %d; give --size a larger number", len(h.Log), room)
	}
	header := make([]byte, headerSize)
	if _, err := f.WriteAt(header, 0); err != nil {
		return fmt.Errorf("clear the hand-over: %w", err)
	}
	area := make([]byte, size-logStart)
	copy(area, h.Log)
	if _, err := f.WriteAt(area, logStart); err != nil {
		return fmt.Errorf("write the launch's log into the hand-over: %w", err)
	}
	copy(header, magic)
	binary.LittleEndian.PutUint32(header[16:], h.Generation)
	binary.LittleEndian.PutUint32(header[20:], uint32(h.Platform))
	if len(h.Log) > 0 {
		binary.LittleEndian.PutUint32(header[24:], logStart)
		binary.LittleEndian.PutUint32(header[28:], uint32(len(h.Log)))
	}
	if _, err := f.WriteAt(header, 0); err != nil {
		return fmt.Errorf("write the hand-over's header: %w", err)
	}
	return nil
}

// Parse reads a hand-over. Without the magic number it returns [ErrNone]. The
// log aliases b.
func Parse(b []byte) (Handover, error) {
	if len(b) < headerSize || string(b[:len(magic)]) != magic {
		return Handover{}, ErrNone
	}
	platform := binary.LittleEndian.Uint32(b[20:])
	offset := uint64(binary.LittleEndian.Uint32(b[24:]))
	length := uint64(binary.LittleEndian.Uint32(b[28:]))
	h := Handover{Generation: binary.LittleEndian.Uint32(b[16:])}
	switch {
	case platform > uint32(drtm.SKINIT):
		return Handover{}, fmt.Errorf("the hand-over names launch platform %d, which is not known", platform)
	case length == 0:
	case offset < headerSize || offset+length > uint64(len(b)):
		return Handover{}, fmt.Errorf("the hand-over says that its log is %d bytes at offset %d, outside of its own %d bytes", length, offset, len(b))
	case platform == 0:
		return Handover{}, errors.New("the hand-over has a log, but says that there was no launch")
	default:
		h.Log = b[offset : offset+length : offset+length]
	}
	h.Platform = drtm.Platform(platform)
	return h, nil
}
