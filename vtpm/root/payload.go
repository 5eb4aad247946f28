package root

import (
	"encoding/binary"
	"fmt"

	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/vtpm/store"
)

// payload is the secret of the sealed record: the root key, what the TPM demands for
// moving the counter, and how both are found again where the record is lost. It exists only where
// the record opens, and in escrow.
type payload struct {
	id         ID
	tpm        [32]byte // as seal.Record has it
	key        []byte
	credential []byte
	anchor     []byte // of the backend
}

const (
	payloadMagic = "AEMVTPMK"
	payloadForm  = 1
	payloadFixed = len(payloadMagic) + 1 + 16 + 32 + store.KeySize // then credential and anchor, counted
)

func (p *payload) wipe() {
	clear(p.key)
	clear(p.credential)
}

func (p *payload) encode() []byte {
	b := append(make([]byte, 0, payloadFixed+2+len(p.credential)+2+len(p.anchor)), payloadMagic...)
	b = append(b, payloadForm)
	b = append(append(append(b, p.id[:]...), p.tpm[:]...), p.key...)
	for _, part := range [][]byte{p.credential, p.anchor} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(part)))
		b = append(b, part...)
	}
	return b
}

// parsePayload is the inverse of encode. What it returns is copied.
func parsePayload(b []byte) (*payload, error) {
	wrong := fmt.Errorf("%w: it holds no key of a vTPM store", seal.ErrDamaged)
	if len(b) < payloadFixed || string(b[:8]) != payloadMagic || b[8] != payloadForm {
		return nil, wrong
	}
	p := &payload{id: ID(b[9:25]), tpm: [32]byte(b[25:57]), key: append([]byte(nil), b[57:payloadFixed]...)}
	b = b[payloadFixed:]
	for _, part := range []*[]byte{&p.credential, &p.anchor} {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			p.wipe()
			return nil, wrong
		}
		n := 2 + int(binary.BigEndian.Uint16(b))
		*part, b = append([]byte(nil), b[2:n]...), b[n:]
	}
	if len(b) != 0 {
		p.wipe()
		return nil, wrong
	}
	return p, nil
}
