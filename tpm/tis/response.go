package tis

import (
	"encoding/binary"
	"fmt"
)

// Sizes in bytes. A header is the tag (2 bytes), the size of the whole (4) and the
// command's or the return code (4), all big-endian, in both families. No command or
// response of a PC client's TPM is larger than maxSize, which is also the limit of
// Linux's driver.
const (
	headerSize = 10
	maxSize    = 4096
)

// checkCommand demands that a command says its own size. A TPM that is told to
// expect more than it gets hangs until it is cancelled.
func checkCommand(cmd []byte) error {
	if len(cmd) < headerSize || len(cmd) > maxSize {
		return fmt.Errorf("%w: it has %d bytes; a command has %d to %d", ErrCommand, len(cmd), headerSize, maxSize)
	}
	if said := binary.BigEndian.Uint32(cmd[2:]); uint64(said) != uint64(len(cmd)) {
		return fmt.Errorf("%w: it has %d bytes and says %d", ErrCommand, len(cmd), said)
	}
	return nil
}

// readResponse reads a response from a source that fills the whole of a slice or
// returns an error. The response says its own size; it is believed up to the limit,
// and nothing is allocated or read before that was looked at.
func readResponse(fill func([]byte) error, limit int) ([]byte, error) {
	header := make([]byte, headerSize)
	if err := fill(header); err != nil {
		return nil, err
	}
	said := binary.BigEndian.Uint32(header[2:])
	if said < headerSize || uint64(said) > uint64(limit) {
		return nil, fmt.Errorf("%w: it says that it has %d bytes; it can have %d to %d", ErrResponse, said, headerSize, limit)
	}
	rsp := append(make([]byte, 0, said), header...)[:said]
	if err := fill(rsp[headerSize:]); err != nil {
		return nil, err
	}
	return rsp, nil
}
