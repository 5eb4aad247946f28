package main

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/antievilmaid/aem/tpm"
)

// trace notes the commands that pass through a channel.
type trace struct {
	tpm.Channel
	commands []command
}

// command is one TPM 2.0 command, as far as its time depends on it.
type command struct {
	code   uint32
	salted bool // a session for which the TPM has to use its storage key
}

// Send passes the command on and notes it.
func (t *trace) Send(cmd []byte) ([]byte, error) {
	if len(cmd) < 10 {
		return nil, fmt.Errorf("a command of %d bytes", len(cmd))
	}
	c := command{code: binary.BigEndian.Uint32(cmd[6:])}
	if c.code == startAuthSession && len(cmd) >= 14 {
		c.salted = binary.BigEndian.Uint32(cmd[10:]) != handleNull
	}
	t.commands = append(t.commands, c)
	return t.Channel.Send(cmd)
}

// Codes and handles of TPM Library, Part 2, clauses 6.5.2 and 7.4.
const (
	startAuthSession = 0x176
	handleNull       = 0x40000007
)

var commandNames = map[uint32]string{
	0x149: "PolicyNV", 0x14e: "NV_Read", 0x157: "Load", 0x15e: "Unseal", 0x165: "FlushContext", 0x16b: "PolicyAuthValue",
	0x171: "PolicyOR", 0x17a: "GetCapability", startAuthSession: "StartAuthSession", 0x17e: "PCR_Read", 0x17f: "PolicyPCR", 0x182: "PCR_Extend",
}

// String is the command's name.
func (c command) String() string {
	name := commandNames[c.code]
	if name == "" {
		name = fmt.Sprintf("%#x", c.code)
	}
	if c.salted {
		name += " (salted)"
	}
	return name
}

// tally says how often each command was sent, in the order in which they came first.
func tally(list []command) string {
	var names []string
	count := map[string]int{}
	for _, c := range list {
		if name := c.String(); count[name] == 0 {
			names = append(names, name)
		}
		count[c.String()]++
	}
	for i, name := range names {
		if count[name] > 1 {
			names[i] = fmt.Sprintf("%d %s", count[name], name)
		}
	}
	return strings.Join(names, ", ")
}

// chip is a discrete TPM 2.0 with published times, in milliseconds.
type chip struct {
	name string
	ecdh float64 // agreeing on a key with P-256: a session that is salted with an ECC storage key
	rsa  float64 // decrypting with RSA-2048 and OAEP: the same with an RSA storage key
	// other is what any other command is taken to cost. Nobody has published the times of
	// TPM2_Load, TPM2_Unseal and the policy commands alone. This is the chip's RSA-2048
	// operation with a public key: a command that carries 256 bytes there and back and
	// computes more than any of those.
	other float64
}

// chips are those of the benchmark in wolfTPM's README, over SPI; the last is what one
// report from the field comes to (archledger/irlume, issue 248: 26 commands in 2.70 s).
var chips = []chip{
	{"Infineon SLB9670", 232.1, 167.4, 8.9},
	{"ST ST33TP", 247.1, 251.8, 9.1},
	{"Nuvoton NPCT650", 175.9, 544.1, 13.1},
	{"Nuvoton NPCT750", 29.4, 70.7, 7.5},
	{"Microchip ATTPM20", 63.9, 118.4, 47.0},
	{"Nations Z32H330", 38.8, 134.2, 19.3},
	{"ST in a ThinkPad X13, as reported", 247.1, 251.8, 2700.0 / 26},
}

// takes is the time of commands on a chip, in milliseconds.
func (c chip) takes(list []command, session float64) float64 {
	sum := 0.0
	for _, cmd := range list {
		if cmd.salted {
			sum += session
		} else {
			sum += c.other
		}
	}
	return sum
}

// model prints what the commands of a proof take on real chips.
func model(commands []command) {
	fmt.Printf("\nThe commands: %s\n\n", tally(commands))
	fmt.Println("| on this chip | with an ECC storage key | with an RSA storage key |\n| --- | --- | --- |")
	for _, c := range chips {
		fmt.Printf("| %s | %.0f ms | %.0f ms |\n", c.name, c.takes(commands, c.ecdh), c.takes(commands, c.rsa))
	}
}
