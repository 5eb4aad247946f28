package eventlog

import (
	"fmt"

	"github.com/antievilmaid/aem/internal/wire"
	"github.com/antievilmaid/aem/tpm"
)

// HashStart is what the CPU's hash sequence covered on Intel: the hash of the
// SINIT module (SHA-256; SHA-1 on a TPM 1.2) and the operand of
// GETSEC[SENTER] (TXT SDG, appendix G.4).
type HashStart struct {
	SINIT    Raw
	EDXFlags uint32
}

// AppendTo appends the event's bytes.
func (d HashStart) AppendTo(b []byte) []byte {
	return le.AppendUint32(append(b, d.SINIT...), d.EDXFlags)
}

// String names the module's hash.
func (d HashStart) String() string {
	return fmt.Sprintf("SINIT module %x, flags %#x", []byte(d.SINIT), d.EDXFlags)
}

// Word is the body of an event that measured a number of 32 bits.
type Word struct {
	Name  string `json:"-"`
	Value uint32
}

// AppendTo appends the four bytes.
func (d Word) AppendTo(b []byte) []byte { return le.AppendUint32(b, d.Value) }

// String is the number's name and value.
func (d Word) String() string { return fmt.Sprintf("%s %#x", d.Name, d.Value) }

// wordNames are the events whose body is one number.
var wordNames = map[Type]string{
	TXTCPUSCRTMStat:       "firmware measured by the CPU:",
	TXTLCPControlHash:     "launch control policy, control word",
	TXTOSSINITDataCapHash: "SINIT capabilities",
}

// Mapping says how SINIT distributes measurements over PCRs 17 and 18.
type Mapping uint32

// The mappings (TXT SDG, appendix G.4, EVTYPE_PCRMAPPING).
const (
	LegacyMapping  Mapping = 0 // PCR 17 the policy, PCR 18 the kernel
	DetailsMapping Mapping = 1 // PCR 17 details, PCR 18 authorities
)

// AppendTo appends the four bytes.
func (d Mapping) AppendTo(b []byte) []byte { return le.AppendUint32(b, uint32(d)) }

// String names the mapping.
func (d Mapping) String() string {
	switch d {
	case LegacyMapping:
		return "legacy PCR mapping"
	case DetailsMapping:
		return "details and authorities PCR mapping"
	}
	return fmt.Sprintf("unknown PCR mapping %d", uint32(d))
}

// NVInfo are the public areas of the NV indices that hold the policy, each
// behind a byte that says whether it exists.
type NVInfo []NVPublic

// NVPublic is a TPMS_NV_PUBLIC (TPM 2.0 Library, part 2, clause 13.5); nil
// where the byte before it is zero.
type NVPublic struct {
	Present    bool
	Index      uint32
	NameAlg    tpm.Alg
	Attributes uint32
	AuthPolicy Raw
	Size       uint16
}

func decodeNVInfo(b []byte) Data {
	r := wire.NewReader(b)
	be16 := func() uint16 { v := r.U16(); return v>>8 | v<<8 }
	be32 := func() uint32 { return uint32(be16())<<16 | uint32(be16()) }
	var list NVInfo
	for r.Left() > 0 {
		n := NVPublic{}
		switch r.U8() {
		case 0:
		case 1:
			n.Present, n.Index, n.NameAlg, n.Attributes = true, be32(), tpm.Alg(be16()), be32()
			n.AuthPolicy = r.Bytes(uint32(be16()))
			n.Size = be16()
		default:
			return nil
		}
		if r.Short() {
			return nil
		}
		list = append(list, n)
	}
	return list
}

// AppendTo appends the event's bytes.
func (d NVInfo) AppendTo(b []byte) []byte {
	be16 := func(v uint16) { b = append(b, byte(v>>8), byte(v)) }
	be32 := func(v uint32) { be16(uint16(v >> 16)); be16(uint16(v)) }
	for _, n := range d {
		if !n.Present {
			b = append(b, 0)
			continue
		}
		b = append(b, 1)
		be32(n.Index)
		be16(uint16(n.NameAlg))
		be32(n.Attributes)
		be16(uint16(len(n.AuthPolicy)))
		b = append(b, n.AuthPolicy...)
		be16(n.Size)
	}
	return b
}

// String lists the indices.
func (d NVInfo) String() string {
	s := "NV indices"
	for _, n := range d {
		if n.Present {
			s += fmt.Sprintf(" %#x", n.Index)
		}
	}
	return s
}

// Absent is the single zero byte that SINIT hashes where there is nothing: no
// policy, no system management monitor.
type Absent struct{ What string }

// AppendTo appends the zero byte.
func (Absent) AppendTo(b []byte) []byte { return append(b, 0) }

// String says what is absent.
func (d Absent) String() string { return "no " + d.What }

var absentNames = map[Type]string{
	TXTSTMHash: "system management monitor", TXTLCPDetailsHash: "launch control policy", TXTLCPAuthoritiesHash: "launch control policy",
}

func decodeTXT(e *Event) Data {
	b := e.Data
	name, word := wordNames[e.Type]
	what, absent := absentNames[e.Type]
	switch {
	case len(b) == 0:
		return Text("")
	case e.Type == TXTHashStart && (len(b) == 36 || len(b) == 24):
		return HashStart{b[:len(b)-4], le.Uint32(b[len(b)-4:])}
	case e.Type == TXTPCRMapping && len(b) == 4:
		return Mapping(le.Uint32(b))
	case word && len(b) == 4:
		return Word{name, le.Uint32(b)}
	case absent && len(b) == 1:
		return Absent{what}
	case e.Type == TXTNVInfoHash:
		return decodeNVInfo(b)
	}
	return nil
}
