package filter

import (
	"encoding/binary"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
)

// Localities is a set of localities: bit n stands for locality n.
type Localities uint8

// OnlyZero is what an operating system has.
const OnlyZero Localities = 1

// Has reports whether commands may come at a locality. Locality 4 and above are the CPU's: no set has them.
func (s Localities) Has(l tpm.Locality) bool { return l < 4 && s&(1<<l) != 0 }

// Guard judges what one guest sends to its TPM.
type Guard struct {
	Version    tpm.Version
	Localities Localities
	// Translate answers TPM 1.2 commands at a TPM 2.0 as a TPM 1.2 does, for Xen's driver. A firmware must not get
	// such an answer: OVMF, which tries a TPM 1.2's command first, takes the chip for one, and measures nothing.
	Translate bool
}

// headerSize is that of a command and of a response: tag, length, code.
const headerSize = 10

// Run answers a command, of any bytes, at a locality, of any number. What may pass goes to send as it is; a command that is
// translated may send several, one after the other. An error is send's.
func (g Guard) Run(at tpm.Locality, command []byte, send func(command []byte) (rsp []byte, err error)) ([]byte, error) {
	judge, settled, answer := g.judge12, settled12, answer12
	if g.Version == tpm.V20 {
		if len(command) >= 2 && binary.BigEndian.Uint16(command) == tagCommand12 {
			if !g.Translate {
				return answer20(rcValue), nil // as libtpms answers
			}
			return g.translate(at, command, send)
		}
		judge, settled, answer = g.judge20, settled20, answer20
	}
	if g.Localities.Has(at) {
		if rsp := settled(command); rsp != nil {
			return rsp, nil
		}
	}
	if refusal := judge(at, command); refusal != 0 {
		return answer(refusal), nil
	}
	return send(command)
}

// framed reports whether the length that a command claims is the one that it has, and is possible.
func framed(command []byte) bool {
	return len(command) >= headerSize && len(command) <= vtpm.BufferSize && binary.BigEndian.Uint32(command[2:]) == uint32(len(command))
}

// packet is a command or a response: tag, length, code, body.
func packet(tag uint16, code uint32, body ...byte) []byte {
	p := make([]byte, 0, headerSize+len(body))
	p = binary.BigEndian.AppendUint16(p, tag)
	p = binary.BigEndian.AppendUint32(p, uint32(headerSize+len(body)))
	p = binary.BigEndian.AppendUint32(p, code)
	return append(p, body...)
}
