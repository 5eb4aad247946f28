package doctor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/device"
	"github.com/antievilmaid/aem/tpm12"
	"github.com/antievilmaid/aem/tpm2"
)

// shownPCRs are those that the rows need: the firmware's, which tell whether a bank
// is in use, the one that AEM extends, and those of the launch.
var shownPCRs = tpm.PCRSet(0, 1, 2, 3, 4, 5, 6, 7, tpm.PCRHost, 17, 18, 19, 20, 21, 22)

// askTPM asks the TPM for all that it tells anybody. No question costs a try.
func (c *collector) askTPM(ch tpm.Channel) {
	v, err := device.Family(ch)
	if err != nil {
		c.miss(fileTPM, err)
		return
	}
	c.TPM = &TPM{Family: "2.0"}
	readPCRs := tpm2.New(ch).ReadPCRs
	if v == tpm.V12 {
		c.TPM.Family = "1.2"
		readPCRs = tpm12.New(ch).ReadPCRs
		c.askTPM12(ch)
	} else {
		c.askTPM2(ch)
	}
	banks, err := readPCRs(shownPCRs)
	if err != nil {
		c.miss(itemTPMPCRs, err)
		return
	}
	c.TPM.Banks = keepBanks(banks)
}

// Capabilities of a TPM 2.0 (Part 2, clause 6.12).
const (
	capHandles    = 1
	capProperties = 6
	firstNVIndex  = 0x01000000
	lastNVIndex   = 0x01ffffff
)

func (c *collector) askTPM2(ch tpm.Channel) {
	// A TPM may end its list with the group of properties that it was asked for.
	for _, first := range []uint32{propFixed, propVariable} {
		pairs, err := capability2(ch, capProperties, first, 8)
		if err != nil {
			c.miss(itemTPMProperties, err)
			continue
		}
		if c.TPM.Properties == nil {
			c.TPM.Properties = map[Hex]Hex{}
		}
		for _, p := range pairs {
			c.TPM.Properties[Hex(binary.BigEndian.Uint32(p))] = Hex(binary.BigEndian.Uint32(p[4:]))
		}
	}
	handles, err := capability2(ch, capHandles, firstNVIndex, 4)
	if err != nil {
		c.miss(itemTPMIndices, err)
		return
	}
	c.TPM.Indices = []Hex{}
	for _, h := range handles {
		if n := binary.BigEndian.Uint32(h); n >= firstNVIndex && n <= lastNVIndex {
			c.TPM.Indices = append(c.TPM.Indices, Hex(n))
		}
	}
}

// capability2 sends TPM2_GetCapability (Part 3, clause 30.2) until the TPM has no
// more, and returns the entries, each of the given size and beginning with its number.
func capability2(ch tpm.Channel, area, first uint32, size int) ([][]byte, error) {
	const most = 128 // entries in one question, and questions
	var list [][]byte
	for range most {
		cmd := []byte{0x80, 0x01, 0, 0, 0, 22, 0, 0, 0x01, 0x7a}
		for _, v := range []uint32{area, first, most} {
			cmd = binary.BigEndian.AppendUint32(cmd, v)
		}
		rsp, err := ch.Send(cmd)
		if err != nil {
			return nil, err
		}
		if len(rsp) < 10 {
			return nil, fmt.Errorf("the TPM's response has only %d bytes", len(rsp))
		}
		if code := binary.BigEndian.Uint32(rsp[6:]); code != 0 {
			return nil, fmt.Errorf("the TPM refuses to tell: code %#x", code)
		}
		body := rsp[10:]
		if len(body) < 9 || binary.BigEndian.Uint32(body[1:]) != area {
			return nil, errors.New("the TPM's response is none to the question")
		}
		more, count, rest := body[0] != 0, binary.BigEndian.Uint32(body[5:]), body[9:]
		if uint64(count)*uint64(size) != uint64(len(rest)) {
			return nil, fmt.Errorf("the TPM's response claims %d entries in %d bytes", count, len(rest))
		}
		list = slices.AppendSeq(list, slices.Chunk(rest, size))
		if !more || count == 0 {
			return list, nil
		}
		last := binary.BigEndian.Uint32(rest[len(rest)-size:])
		if last < first || last == 1<<32-1 {
			return nil, errors.New("the TPM's response goes backwards")
		}
		first = last + 1
	}
	return list, nil
}

// Capabilities of a TPM 1.2 (Part 2, clauses 21.1 and 21.2).
const (
	cap12Flag     = 0x04
	cap12Property = 0x05
	cap12Version  = 0x1a

	flags12Permanent = 0x108
	prop12FreeNV     = 0x123 // TPM_CAP_PROP_MAX_NV_AVAILABLE
)

func (c *collector) askTPM12(ch tpm.Channel) {
	t := tpm12.New(ch)
	var err error
	if c.TPM.Version, err = capability12(ch, cap12Version, nil); err != nil {
		c.miss(itemTPMVersion, err)
	}
	if c.TPM.Flags, err = capability12(ch, cap12Flag, binary.BigEndian.AppendUint32(nil, flags12Permanent)); err != nil {
		c.miss(itemTPMFlags, err)
	}
	if b, err := capability12(ch, cap12Property, binary.BigEndian.AppendUint32(nil, prop12FreeNV)); err != nil {
		c.miss(itemTPMFree, err)
	} else if len(b) == 4 {
		free := binary.BigEndian.Uint32(b)
		c.TPM.FreeNV = &free
	}
	if owned, err := t.Owned(); err == nil {
		c.TPM.Owned = &owned
	}
	if d, err := t.Defence(); err != nil {
		c.miss(itemTPMDefence, err)
	} else {
		c.TPM.Defence = &Defence{Locked: d.Locked, Failed: d.Failed, Allowed: d.Allowed, Seconds: uint32(d.Wait.Seconds())}
	}
	indices, err := t.NVIndices()
	if err != nil {
		c.miss(itemTPMIndices, err)
		return
	}
	c.TPM.Indices = []Hex{}
	for _, i := range indices {
		c.TPM.Indices = append(c.TPM.Indices, Hex(i))
	}
}

// capability12 sends TPM_GetCapability (Part 3, clause 7.1).
func capability12(ch tpm.Channel, area uint32, sub []byte) (Bytes, error) {
	cmd := []byte{0x00, 0xc1}
	for _, v := range []uint32{uint32(18 + len(sub)), 0x65, area, uint32(len(sub))} {
		cmd = binary.BigEndian.AppendUint32(cmd, v)
	}
	rsp, err := ch.Send(append(cmd, sub...))
	if err != nil {
		return nil, err
	}
	if len(rsp) < 10 {
		return nil, fmt.Errorf("the TPM's response has only %d bytes", len(rsp))
	}
	if code := binary.BigEndian.Uint32(rsp[6:]); code != 0 {
		return nil, fmt.Errorf("the TPM refuses to tell: %w", tpm12.Error(code))
	}
	if len(rsp) < 14 || uint64(binary.BigEndian.Uint32(rsp[10:])) != uint64(len(rsp)-14) {
		return nil, errors.New("the TPM's response has another length than it says")
	}
	return Bytes(rsp[14:]), nil
}
