package main

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
)

// request is a command that is timed, so many times in a row, or several that belong together.
type request struct {
	name     string
	commands [][]byte
	times    int
}

// timed sends them so many times, and returns what each time took, in microseconds.
func (q request) timed(c tpm.Channel, times int) (took []float64, err error) {
	for range times {
		start := time.Now()
		for _, command := range q.commands {
			if _, err := succeed(c, command); err != nil {
				return nil, fmt.Errorf("%s: %w", q.name, err)
			}
		}
		took = append(took, float64(time.Since(start).Nanoseconds())/1000)
	}
	return took, nil
}

// part is the value of a list below which so much of it lies: 0.5 is its median. On a machine that has something
// else to do, too, the lower quartile is what a thing takes, and the median what the others took from it.
func part(list []float64, of float64) float64 {
	return slices.Sorted(slices.Values(list))[int(float64(len(list))*of)]
}

func quartile(list []float64) float64 { return part(list, 0.25) }

// requestsOf makes at a fresh TPM what the requests are about: a counter and two keys.
func requestsOf(c tpm.Channel) ([]request, error) {
	counter, err := tpm2.New(c).MakeCounter(nil)
	if err != nil {
		return nil, err
	}
	index := string(binary.BigEndian.AppendUint32(nil, counter.Index))
	signer, err := handleOf(succeed(c, createPrimary(rsaKey)))
	if err != nil {
		return nil, err
	}
	fast, err := handleOf(succeed(c, createPrimary(eccKey)))
	if err != nil {
		return nil, err
	}
	// The next one comes to the same place each time.
	next, err := handleOf(succeed(c, createPrimary(eccKey)))
	if err != nil {
		return nil, err
	}
	flush := packet(0x8001, 0x165, next)
	if _, err := succeed(c, flush); err != nil {
		return nil, err
	}
	return []request{
		{"GetRandom, 32 bytes", [][]byte{packet(0x8001, 0x17b, "\x00\x20")}, 500},
		{"PCR_Read, 8 of SHA-256", [][]byte{packet(0x8001, 0x17e, "\x00\x00\x00\x01\x00\x0b\x03\xff\x00\x00")}, 500},
		{"PCR_Extend", [][]byte{packet(0x8002, 0x182, "\x00\x00\x00\x10"+ownerPassword+"\x00\x00\x00\x01\x00\x0b"+string(make([]byte, 32)))}, 500},
		{"Sign, ECDSA P-256", [][]byte{sign(fast)}, 50},
		{"Sign, RSA 2048", [][]byte{sign(signer)}, 50},
		{"CreatePrimary, ECC P-256, and FlushContext", [][]byte{createPrimary(eccKey), flush}, 50},
		{"NV_Increment, which is stored", [][]byte{packet(0x8002, 0x134, "\x40\x00\x00\x01"+index+ownerPassword)}, 20},
	}, nil
}

// ownerPassword is an authorisation area with an empty password (TPM Library, Part 1, clause 19.4).
const ownerPassword = "\x00\x00\x00\x09\x40\x00\x00\x09\x00\x00\x00\x00\x00"

// eccKey and rsaKey are public areas of keys that sign whatever they are given, without protection from guesses (Part 2, clause 12.2.4): ECDSA on
// P-256, and RSASSA with 2048 bits, both with SHA-256.
const (
	eccKey = "\x00\x23\x00\x0b\x00\x04\x04\x72\x00\x00\x00\x10\x00\x18\x00\x0b\x00\x03\x00\x10\x00\x00\x00\x00"
	rsaKey = "\x00\x01\x00\x0b\x00\x04\x04\x72\x00\x00\x00\x10\x00\x14\x00\x0b\x08\x00\x00\x00\x00\x00\x00\x00"
)

func createPrimary(public string) []byte {
	length := string(binary.BigEndian.AppendUint16(nil, uint16(len(public))))
	return packet(0x8002, 0x131, "\x40\x00\x00\x01"+ownerPassword+"\x00\x04\x00\x00\x00\x00"+length+public+"\x00\x00"+"\x00\x00\x00\x00")
}

func sign(key string) []byte {
	return packet(0x8002, 0x15d, key+ownerPassword+"\x00\x20"+string(make([]byte, 32))+"\x00\x10"+"\x80\x24\x40\x00\x00\x07\x00\x00")
}

func packet(tag uint16, code uint32, body string) []byte {
	p := binary.BigEndian.AppendUint16(nil, tag)
	p = binary.BigEndian.AppendUint32(p, uint32(10+len(body)))
	return append(binary.BigEndian.AppendUint32(p, code), body...)
}

// handleOf is the handle in a response that begins with one.
func handleOf(rsp []byte, err error) (string, error) {
	if err == nil && len(rsp) < 14 {
		err = fmt.Errorf("the TPM answered with %d bytes", len(rsp))
	}
	if err != nil {
		return "", fmt.Errorf("make a key: %w", err)
	}
	return string(rsp[10:14]), nil
}

// succeed sends a command that must.
func succeed(c tpm.Channel, command []byte) ([]byte, error) {
	rsp, err := c.Send(command)
	if err == nil {
		if rc := binary.BigEndian.Uint32(rsp[6:]); rc != 0 {
			err = fmt.Errorf("the TPM answered %#x", rc)
		}
	}
	return rsp, err
}
