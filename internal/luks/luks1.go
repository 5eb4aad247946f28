package luks

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"strconv"
	"strings"
)

// A LUKS1 header (LUKS1 On-Disk Format Specification 1.2.3, figures 1 and 2): 208 bytes,
// then 48 for each of eight key slots. All numbers are big-endian, all places in sectors.
const (
	luks1Len      = 592
	luks1Slots    = 8
	luks1SlotsAt  = 208
	luks1SlotLen  = 48
	luks1Enabled  = 0x00ac71f3
	luks1Disabled = 0x0000dead
)

// openLUKS1 says what a LUKS1 header says in the words of LUKS2, which has a name for each
// of its fields, so that both are measured and compared alike.
func openLUKS1(dev device) (*Header, error) {
	const phdrLen = 1024 // with its padding
	b, err := dev.read(0, phdrLen)
	if err != nil {
		return nil, err
	}
	if len(b) < phdrLen {
		return nil, damaged("the device ends in it")
	}
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(b[at:]) }
	b64 := func(from, to int) string { return base64.StdEncoding.EncodeToString(b[from:to]) }

	if strings.Contains(text(b[8:40]), "-") {
		return nil, malformed("its cipher is %s", clip(text(b[8:40]))) // where it ends would not be measured
	}
	cipher := text(b[8:40]) + "-" + text(b[40:72])
	hash := text(b[72:104])
	payload, keySize := uint64(u32(104))*sector, int(u32(108))
	if keySize == 0 || keySize > maxKeySize {
		return nil, malformed("its key has %d bytes", keySize)
	}

	slots, names, places := object{}, []any{}, object{}
	end := payload
	if payload == 0 {
		end = uint64(dev.size)
	}
	var areas []KeySlot // of all eight: cryptsetup checks those of unused slots too
	for i := range luks1Slots {
		at := luks1SlotsAt + i*luks1SlotLen
		name := strconv.Itoa(i)
		off := uint64(u32(at+40)) * sector
		if u32(at+44) != stripes {
			return nil, malformed("key slot %d has %d stripes", i, u32(at+44))
		}
		areas = append(areas, KeySlot{Number: i, KeySize: keySize, Area: Area{Offset: off, Size: stripesLen(keySize)}})
		places[name] = strconv.FormatUint(off, 10)
		switch u32(at) {
		case luks1Disabled:
			continue
		case luks1Enabled:
		default:
			return nil, malformed("key slot %d is neither in use nor free", i)
		}
		names = append(names, name)
		slots[name] = object{
			"type": "luks1", "key_size": number(uint32(keySize)),
			"af":   object{"type": "luks1", "stripes": number(stripes), "hash": hash},
			"area": object{"type": "raw", "offset": places[name], "size": strconv.FormatUint(stripesLen(keySize), 10), "encryption": cipher, "key_size": number(uint32(keySize))},
			"kdf":  object{"type": "pbkdf2", "hash": hash, "iterations": number(u32(at + 4)), "salt": b64(at+8, at+40)},
		}
	}
	metadata := object{
		"keyslots": slots,
		"segments": object{"0": object{"type": "crypt", "offset": strconv.FormatUint(payload, 10), "size": "dynamic",
			"iv_tweak": "0", "encryption": cipher, "sector_size": number(sector)}},
		"digests": object{"0": object{"type": "pbkdf2", "keyslots": names, "segments": []any{"0"}, "hash": hash,
			"iterations": number(u32(164)), "salt": b64(132, 164), "digest": b64(112, 132)}},
		"tokens": object{},
		"config": object{"places": places},
	}
	var f fields
	if checkAreas(&f, areas, span{phdrLen, end}); f.err != nil {
		return nil, f.err
	}
	h := &Header{Version: 1, UUID: text(b[168:208])}
	for _, a := range areas {
		h.Length = max(h.Length, a.Area.Offset+a.Area.Size)
		if !dev.has(a.Area.Offset + a.Area.Size) {
			return nil, damaged("key slot %d lies behind the end of the device", a.Number)
		}
	}
	if err := h.decode(metadata, span{phdrLen, end}); err != nil {
		return nil, err
	}
	return h.finish(metadata, dev)
}

func number(n uint32) json.Number { return json.Number(strconv.FormatUint(uint64(n), 10)) }
