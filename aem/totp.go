package aem

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/antievilmaid/aem/internal/totp"
	"github.com/antievilmaid/aem/internal/wire"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
)

// codeSecret is what a record for one-time codes holds in place of a sentence; its
// bytes are documented in docs/formats/totp.md.
type codeSecret struct {
	params   totp.Params   // complete
	sighting totp.Sighting // in whole seconds
	held     []byte        // as [Chip.HoldCodeKey] returned it
}

const (
	codeFormat = 1
	clockSafe  = 1 << 0 // the only flag
	// maxWall is the end of the year 9999: beyond it Go's own times wrap around.
	maxWall = 253402300799
)

// bytes encodes it. The caller wipes them.
func (c *codeSecret) bytes() ([]byte, error) {
	p := c.params
	if len(p.Issuer) > 0xff || len(p.Account) > 0xff {
		return nil, fmt.Errorf("the names of issuer and account have %d and %d bytes; %d are possible", len(p.Issuer), len(p.Account), 0xff)
	}
	// In one allocation, so that wiping the result wipes all of it.
	b := make([]byte, 0, 34+len(p.Issuer)+len(p.Account)+len(c.held))
	b = append(b, codeFormat, uint8(p.Digits), uint8(p.Period/time.Second))
	b = binary.LittleEndian.AppendUint16(b, uint16(p.Alg))
	b = binary.LittleEndian.AppendUint64(b, uint64(c.sighting.Wall.Unix()))
	b = binary.LittleEndian.AppendUint64(b, c.sighting.TPM.Milliseconds)
	b = binary.LittleEndian.AppendUint32(b, c.sighting.TPM.Resets)
	b = binary.LittleEndian.AppendUint32(b, c.sighting.TPM.Restarts)
	var flags uint8
	if c.sighting.TPM.Safe {
		flags |= clockSafe
	}
	b = append(b, flags)
	b = append(append(b, uint8(len(p.Issuer))), p.Issuer...)
	b = append(append(b, uint8(len(p.Account))), p.Account...)
	return appendCounted(b, c.held), nil
}

// parseCodeSecret is the inverse of bytes. What it returns shares the bytes, so
// wiping them wipes it. Whatever is not exactly such a secret is [seal.ErrDamaged].
func parseCodeSecret(b []byte) (*codeSecret, error) {
	r := wire.NewReader(b)
	if format := r.U8(); format != codeFormat {
		return nil, fmt.Errorf("%w: its one-time codes have format %d; this program knows format %d", seal.ErrDamaged, format, codeFormat)
	}
	c := &codeSecret{}
	c.params.Digits = int(r.U8())
	c.params.Period = time.Duration(r.U8()) * time.Second
	c.params.Alg = tpm.Alg(r.U16())
	wall := r.U64()
	c.sighting.TPM = tpm2.Clock{Milliseconds: r.U64(), Resets: r.U32(), Restarts: r.U32()}
	flags := r.U8()
	c.sighting.TPM.Safe = flags&clockSafe != 0
	c.params.Issuer = string(r.Bytes(uint32(r.U8())))
	c.params.Account = string(r.Bytes(uint32(r.U8())))
	c.held = counted(&r)
	complete, err := c.params.Complete()
	switch {
	case r.Short() || r.Left() != 0:
		err = fmt.Errorf("%d bytes are not all of them", len(b))
	case err != nil:
	case complete != c.params:
		err = fmt.Errorf("a parameter is zero")
	case wall > maxWall:
		err = fmt.Errorf("they were set up %d seconds after 1970", wall)
	case flags&^clockSafe != 0:
		err = fmt.Errorf("unknown flags %#x", flags)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: its one-time codes can't be read: %w", seal.ErrDamaged, err)
	}
	c.sighting.Wall = time.Unix(int64(wall), 0)
	return c, nil
}

// appendCounted and counted put a length of 16 bits before bytes, and read it.
func appendCounted(b, part []byte) []byte {
	return append(binary.LittleEndian.AppendUint16(b, uint16(len(part))), part...)
}

func counted(r *wire.Reader) []byte { return r.Bytes(uint32(r.U16())) }
