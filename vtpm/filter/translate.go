package filter

import (
	"encoding/binary"
	"slices"

	"github.com/antievilmaid/aem/tpm"
)

// TPM 1.2 ordinals and capabilities (TPM Main, Part 2, clauses 17 and 21).
const (
	ordExtend        = 0x14
	ordPCRRead       = 0x15
	ordGetRandom     = 0x46
	ordGetCapability = 0x65

	capProperty     = 0x05
	capVersion      = 0x06
	capVersionVal   = 0x1a
	propPCR         = 0x101
	propVendor      = 0x103
	propTISTimeout  = 0x115
	propTISDuration = 0x120
)

// translate answers a TPM 1.2 command for a TPM 2.0.
func (g Guard) translate(at tpm.Locality, command []byte, send func([]byte) ([]byte, error)) ([]byte, error) {
	if !framed(command) {
		return answer12(badParamSize), nil
	}
	if !g.Localities.Has(at) {
		return answer12(badLocality), nil
	}
	body := command[headerSize:]
	switch binary.BigEndian.Uint32(command[6:]) {
	case ordGetCapability:
		return capability(body), nil
	case ordGetRandom:
		if len(body) != 4 {
			return answer12(badParamSize), nil
		}
		return random(binary.BigEndian.Uint32(body), send)
	case ordPCRRead:
		if len(body) != 4 {
			return answer12(badParamSize), nil
		}
		value, rc, err := readSHA1(binary.BigEndian.Uint32(body), send)
		return response(value, rc, err)
	case ordExtend:
		if len(body) != 4+sha1Size {
			return answer12(badParamSize), nil
		}
		value, rc, err := extendSHA1(binary.BigEndian.Uint32(body), body[4:], send)
		return response(value, rc, err)
	}
	return answer12(badOrdinal), nil
}

// The time limits, in microseconds, as a TPM's driver asks for them (Part 2, clause 21.2; Linux's tpm1_get_timeouts). Linux
// takes values below 1000 for milliseconds. The timeouts are those of the interface specification; the durations, for short,
// medium and long commands, are what Xen's TPM 1.2 emulator says since it met RSA keys on a loaded machine.
var (
	timeouts  = words(750_000, 2_000_000, 750_000, 750_000)
	durations = words(3_000_000, 3_000_000, 600_000_000)
)

// versionInfo is a TPM_CAP_VERSION_INFO: version 1.2, level 2, errata 3, the vendor, no vendor's data.
var versionInfo = append(append([]byte{0, 0x30, 1, 2, 0, 0, 0, 2, 3}, vendor...), 0, 0)

var vendor = []byte("IBM\x00") // as libtpms calls itself

// capability answers TPM_GetCapability: the area, and the sub-capability behind its length.
func capability(body []byte) []byte {
	if len(body) < 8 || uint64(binary.BigEndian.Uint32(body[4:])) != uint64(len(body)-8) {
		return answer12(badParamSize)
	}
	area, sub := binary.BigEndian.Uint32(body), body[8:]
	var value []byte
	switch {
	case area == capVersion:
		value = []byte{1, 1, 0, 0} // TPM_STRUCT_VER: always 1.1 (Part 2, clause 5.1)
	case area == capVersionVal:
		value = versionInfo
	case area == capProperty && len(sub) == 4:
		value = map[uint32][]byte{
			propPCR:         words(tpm.NumPCRs),
			propVendor:      vendor,
			propTISTimeout:  timeouts,
			propTISDuration: durations,
		}[binary.BigEndian.Uint32(sub)]
	}
	if value == nil {
		return answer12(badMode) // TPM_BAD_MODE: the answer to a capability that a TPM does not have
	}
	return packet(tagResponse12, 0, slices.Concat(words(uint32(len(value))), value)...)
}

// random asks for random bytes. A TPM 2.0 gives as many as its largest digest has at once; a TPM 1.2's driver asks again for what is missing.
func random(n uint32, send func([]byte) ([]byte, error)) ([]byte, error) {
	const most = 64
	n = min(n, most)
	out, rc, err := ask(send, packet(tagNoSessions, 0x17b, byte(n>>8), byte(n))) // TPM2_GetRandom
	if err != nil || rc != 0 {
		return response(nil, rc, err)
	}
	if len(out) < 2 || int(binary.BigEndian.Uint16(out)) != len(out)-2 || len(out)-2 > int(n) {
		return answer12(fail), nil
	}
	return packet(tagResponse12, 0, slices.Concat(words(uint32(len(out)-2)), out[2:])...), nil
}

const (
	sha1Size = 20
	algSHA1  = uint16(tpm.SHA1)
)

// readSHA1 reads a PCR's value in the SHA-1 bank. A TPM without that bank has no PCR that a TPM 1.2 could mean.
func readSHA1(pcr uint32, send func([]byte) ([]byte, error)) (value []byte, rc uint32, err error) {
	if pcr >= tpm.NumPCRs {
		return nil, badIndex, nil
	}
	// TPM2_PCR_Read: one selection, the algorithm, three bytes of bits.
	selection := []byte{0, 0, 0, 1, byte(algSHA1 >> 8), byte(algSHA1 & 0xff), 3, 0, 0, 0}
	selection[7+pcr/8] = 1 << (pcr % 8)
	out, rc, err := ask(send, packet(tagNoSessions, 0x17e, selection...))
	if err != nil || rc != 0 {
		return nil, rc, err
	}
	// The update counter, the selection that was read, one digest behind its length.
	const before = 4 + 10
	if len(out) != before+4+2+sha1Size || binary.BigEndian.Uint32(out[before:]) != 1 || binary.BigEndian.Uint16(out[before+4:]) != sha1Size {
		return nil, badIndex, nil
	}
	return out[before+6:], 0, nil
}

// extendSHA1 extends a PCR in the SHA-1 bank and returns its new value, as TPM_Extend does. The other banks stay: a bank
// that the guest has not extended shows that, while a made-up digest would not.
func extendSHA1(pcr uint32, digest []byte, send func([]byte) ([]byte, error)) (value []byte, rc uint32, err error) {
	// A TPM 2.0 takes an extend for a bank that it does not have, and does nothing.
	if _, rc, err := readSHA1(pcr, send); err != nil || rc != 0 {
		return nil, rc, err
	}
	// TPM2_PCR_Extend with the empty password: one digest.
	body := slices.Concat(words(pcr), []byte(emptyPassword), words(1), []byte{byte(algSHA1 >> 8), byte(algSHA1 & 0xff)}, digest)
	if _, rc, err := ask(send, packet(tagSessions, 0x182, body...)); err != nil || rc != 0 {
		return nil, rc, err
	}
	return readSHA1(pcr, send)
}

const badIndex = 0x02 // TPM_BADINDEX

// ask sends a TPM 2.0 command and returns what follows the response's header, or a TPM 1.2 code that says as much as the
// TPM's own.
func ask(send func([]byte) ([]byte, error), command []byte) (out []byte, rc uint32, err error) {
	rsp, err := send(command)
	if err != nil {
		return nil, 0, err
	}
	if !framed(rsp) {
		return nil, fail, nil
	}
	switch binary.BigEndian.Uint32(rsp[6:]) {
	case 0:
		return rsp[headerSize:], 0, nil
	case rcLocality:
		return nil, badLocality, nil
	}
	return nil, fail, nil
}

func response(body []byte, rc uint32, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	if rc != 0 {
		return answer12(rc), nil
	}
	return packet(tagResponse12, 0, body...), nil
}

func words(list ...uint32) []byte {
	var b []byte
	for _, w := range list {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}
