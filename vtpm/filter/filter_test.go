package filter_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/filter"
)

var (
	guard20 = filter.Guard{Version: tpm.V20, Localities: filter.OnlyZero, Translate: true}
	guard12 = filter.Guard{Version: tpm.V12, Localities: filter.OnlyZero}
)

func packet(tag uint16, code uint32, body ...byte) []byte {
	p := binary.BigEndian.AppendUint16(nil, tag)
	p = binary.BigEndian.AppendUint32(p, uint32(10+len(body)))
	return append(binary.BigEndian.AppendUint32(p, code), body...)
}

func b(parts ...any) []byte {
	var out []byte
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			out = append(out, byte(p))
		case uint32:
			out = binary.BigEndian.AppendUint32(out, p)
		case []byte:
			out = append(out, p...)
		}
	}
	return out
}

const (
	platform = uint32(0x4000000c)
	owner    = uint32(0x40000001)
)

var password = []byte{0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0}

// passed runs a command and says whether it reached the TPM, and with which answer if not.
func passed(t *testing.T, g filter.Guard, at tpm.Locality, command []byte) (bool, []byte) {
	t.Helper()
	reached := false
	rsp, err := g.Run(at, command, func(sent []byte) ([]byte, error) {
		if !bytes.Equal(sent, command) {
			t.Errorf("%x was sent for %x", sent, command)
		}
		reached = true
		return nil, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return reached, rsp
}

func TestRefusals20(t *testing.T) {
	code := func(rc uint32) []byte { return packet(0x8001, rc) }
	badTag := packet(0xc4, 0x1e)
	long := packet(0x8001, 0x17b, make([]byte, vtpm.BufferSize)...)
	for _, c := range []struct {
		name    string
		at      tpm.Locality
		command []byte
		want    []byte
	}{
		{"nothing", 0, nil, code(0x142)},
		{"half a header", 0, []byte{0x80, 1, 0, 0}, code(0x142)},
		{"a longer claim", 0, append(packet(0x8001, 0x17b, 0, 8), 0), code(0x142)},
		{"a shorter claim", 0, packet(0x8001, 0x17b, 0, 8)[:11], code(0x142)},
		{"more than the buffer", 0, long, code(0x142)},
		{"Xen's pass-through", 0, packet(0x01c1, 0x65), badTag},
		{"Xen's pass-through, two", 0, packet(0x01c2, 0x65), badTag},
		{"sessions of a TPM 1.2", 0, packet(0xc2, 0x65), badTag},
		{"no tag of any", 0, packet(0xffff, 0x17b), badTag},
		{"locality 1", 1, packet(0x8001, 0x17b, 0, 8), code(0x907)},
		{"locality 4", 4, packet(0x8001, 0x17b, 0, 8), code(0x907)},
		{"locality 255", 255, packet(0x8001, 0x17b, 0, 8), code(0x907)},
		{"startup at locality 4", 4, packet(0x8001, 0x144, 0, 0), code(0x907)},
		{"ChangeEPS", 0, packet(0x8002, 0x124, b(platform, password)...), code(0x143)},
		{"ChangePPS", 0, packet(0x8002, 0x125, b(platform, password)...), code(0x143)},
		{"FieldUpgradeStart", 0, packet(0x8002, 0x12f, b(platform, owner, password)...), code(0x143)},
		{"FieldUpgradeData", 0, packet(0x8001, 0x141, 0, 0), code(0x143)},
		{"FirmwareRead", 0, packet(0x8001, 0x179, 0, 0, 0, 0), code(0x143)},
		{"PCR_Allocate", 0, packet(0x8002, 0x12b, b(platform, password)...), code(0x143)},
		{"Vendor_TCG_Test", 0, packet(0x8001, 0x20000000), code(0x143)},
		{"swtpm's locality", 0, packet(0x8001, 0x20001000, 4), code(0x143)},
		{"swtpm's locality, with sessions", 0, packet(0x8002, 0x20001000, 4), code(0x143)},
		{"a command with reserved bits", 0, packet(0x8001, 0x8000017b, 0, 8), code(0x143)},
		{"Clear by the platform", 0, packet(0x8002, 0x126, b(platform, password)...), code(0x185)},
		{"SetPrimaryPolicy of the platform", 0, packet(0x8002, 0x12e, b(platform, password, 0, 0, 0, 0x10)...), code(0x185)},
		{"HierarchyControl of the owner by the platform", 0, packet(0x8002, 0x121, b(platform, password, owner, 0)...), code(0x185)},
		{"HierarchyControl enabling the platform", 0, packet(0x8002, 0x121, b(platform, password, platform, 1)...), code(0x185)},
		{"CreatePrimary in the platform", 0, packet(0x8002, 0x131, b(platform, password)...), code(0x185)},
		{"PolicyNV by the platform", 0, packet(0x8002, 0x149, b(platform, uint32(0x1800000), uint32(0x3000000))...), code(0x185)},
		{"a session bound to the platform", 0, packet(0x8001, 0x176, b(uint32(0x40000007), platform)...), code(0x285)},
		{"the platform as third handle", 0, packet(0x8002, 0x184, b(owner, owner, platform)...), code(0x385)},
		{"half a handle", 0, packet(0x8001, 0x173, 0x80, 0), code(0x142)},
		{"one handle of two", 0, packet(0x8002, 0x137, b(owner)...), code(0x142)},
		{"one handle of three and a half", 0, packet(0x8002, 0x184, b(owner, 1, 2)...), code(0x142)},
		{"HierarchyChangeAuth of the platform with another password", 0, packet(0x8002, 0x129,
			b(platform, uint32(10), uint32(0x40000009), 0, 0, 0, 0, 1, 'x', 0, 0)...), code(0x185)},
		{"HierarchyChangeAuth of the platform that claims more than it has", 0, packet(0x8002, 0x129, b(platform, password, 0, 20, 1, 2)...), code(0x185)},
	} {
		if reached, got := passed(t, guard20, c.at, c.command); reached || !bytes.Equal(got, c.want) {
			t.Errorf("%s: reached the TPM: %v; answer %x, want %x", c.name, reached, got, c.want)
		}
	}
}

func TestRefusals12(t *testing.T) {
	code := func(rc uint32) []byte { return packet(0xc4, rc) }
	type test struct {
		name    string
		at      tpm.Locality
		command []byte
		want    uint32
	}
	list := []test{
		{"nothing", 0, nil, 0x19},
		{"half a header", 0, []byte{0, 0xc1, 0, 0}, 0x19},
		{"a longer claim", 0, append(packet(0xc1, 0x46, 0, 0, 0, 8), 0), 0x19},
		{"more than the buffer", 0, packet(0xc1, 0x46, make([]byte, vtpm.BufferSize)...), 0x19},
		{"Xen's pass-through", 0, packet(0x01c1, 0x65), 0x1e},
		{"Xen's pass-through, two", 0, packet(0x01c2, 0x65), 0x1e},
		{"a TPM 2.0 command", 0, packet(0x8001, 0x17b, 0, 8), 0x1e},
		{"a response's tag", 0, packet(0xc4, 0x46), 0x1e},
		{"locality 2", 2, packet(0xc1, 0x46, 0, 0, 0, 8), 0x3d},
		{"locality 77", 77, packet(0xc1, 0x46, 0, 0, 0, 8), 0x3d},
		{"TSC_PhysicalPresence", 0, packet(0xc1, 0x4000000a, 0, 8), 0x0a},
		{"TSC_ResetEstablishmentBit", 0, packet(0xc1, 0x4000000b), 0x0a},
		{"a vendor's command", 0, packet(0xc1, 0x20000016), 0x0a},
		{"swtpm's locality", 0, packet(0xc1, 0x20001000, 4), 0x0a},
		{"FieldUpgrade", 0, packet(0xc1, 0xaa), 0x08},
		{"SetCapability of the vendor's", 0, packet(0xc2, 0x3f, b(uint32(7), uint32(4))...), 0x08},
		{"ExecuteTransport", 0, packet(0xc2, 0xe7, make([]byte, 60)...), 0x08},
		{"ForceClear", 0, packet(0xc1, 0x5d), 0x2d},
		{"PhysicalDisable", 0, packet(0xc1, 0x70), 0x2d},
		{"RevokeTrust", 0, packet(0xc1, 0x80, make([]byte, 20)...), 0x08},
	}
	for ordinal := uint32(44); ordinal <= 48; ordinal++ {
		list = append(list, test{fmt.Sprintf("maintenance %d", ordinal), 0, packet(0xc1, ordinal), 0x08})
	}
	for _, c := range list {
		if reached, got := passed(t, guard12, c.at, c.command); reached || !bytes.Equal(got, code(c.want)) {
			t.Errorf("%s: reached the TPM: %v; answer %x, want code %#x", c.name, reached, got, c.want)
		}
	}
}

func TestWhatGuestsNeedPasses(t *testing.T) {
	for _, c := range []struct {
		name    string
		guard   filter.Guard
		at      tpm.Locality
		command []byte
	}{
		{"GetRandom", guard20, 0, packet(0x8001, 0x17b, 0, 8)},
		{"Clear by the lockout", guard20, 0, packet(0x8002, 0x126, b(uint32(0x4000000a), password)...)},
		{"HierarchyChangeAuth of the owner", guard20, 0, packet(0x8002, 0x129, b(owner, password, 0, 0)...)},
		{"FlushContext of what looks like the platform", guard20, 0, packet(0x8001, 0x165, b(platform)...)},
		{"GetCapability for the platform's handle", guard20, 0, packet(0x8001, 0x17a, b(uint32(1), platform, uint32(1))...)},
		{"the longest command", guard20, 0, packet(0x8001, 0x17b, make([]byte, vtpm.BufferSize-10)...)},
		{"locality 2 where it is allowed", filter.Guard{Version: tpm.V20, Localities: 0b101}, 2, packet(0x8001, 0x17b, 0, 8)},
		{"Startup(STATE), for the TPM to refuse", guard20, 0, packet(0x8001, 0x144, 0, 1)},
		{"TPM_TakeOwnership", guard12, 0, packet(0xc2, 0x0d, make([]byte, 100)...)},
		{"TPM_SetCapability of flags", guard12, 0, packet(0xc2, 0x3f, b(uint32(1), uint32(4))...)},
		{"TPM_Quote2", guard12, 0, packet(0xc2, 0x3e, make([]byte, 40)...)},
		{"TPM_Seal", guard12, 0, packet(0xc3, 0x17, make([]byte, 40)...)},
	} {
		if reached, rsp := passed(t, c.guard, c.at, c.command); !reached {
			t.Errorf("%s was answered with %x", c.name, rsp)
		}
	}
}

// Locality 4 is in no set, however it was written.
func TestLocality4IsNotToBeHad(t *testing.T) {
	all := filter.Localities(0xff)
	for l := range tpm.Locality(255) {
		if all.Has(l) != (l < 4) {
			t.Errorf("locality %d: %v", l, all.Has(l))
		}
		if filter.Localities(0).Has(l) {
			t.Errorf("the empty set has locality %d", l)
		}
	}
}

// What a firmware asks for and finds done already.
func TestSettled(t *testing.T) {
	continued := bytes.Clone(password)
	continued[10] = 1
	done := b([]byte{0x80, 2}, uint32(19), uint32(0), uint32(0), 0, 0, 1, 0, 0)
	for _, c := range []struct {
		name          string
		guard         filter.Guard
		command, want []byte
	}{
		{"TPM2_Startup", guard20, packet(0x8001, 0x144, 0, 0), packet(0x8001, 0)},
		{"TPM_Startup", guard12, packet(0xc1, 0x99, 0, 1), packet(0xc4, 0)},
		{"SeaBIOS's password", guard20, packet(0x8002, 0x129, b(platform, continued, 0, 20, make([]byte, 20))...), done},
		{"OVMF's password", guard20, packet(0x8002, 0x129, b(platform, password, 0, 32, make([]byte, 32))...), done},
		{"a disabled platform", guard20, packet(0x8002, 0x121, b(platform, password, platform, 0)...), done},
	} {
		if reached, got := passed(t, c.guard, 0, c.command); reached || !bytes.Equal(got, c.want) {
			t.Errorf("%s: reached the TPM: %v; answer %x, want %x", c.name, reached, got, c.want)
		}
	}
}

func TestTPMsErrorIsPassedOn(t *testing.T) {
	gone := errors.New("gone")
	for _, c := range [][]byte{
		packet(0x8001, 0x17b, 0, 8), packet(0xc1, 0x46, 0, 0, 0, 8), packet(0xc1, 0x15, 0, 0, 0, 0), packet(0xc1, 0x14, make([]byte, 24)...),
	} {
		if rsp, err := guard20.Run(0, c, func([]byte) ([]byte, error) { return nil, gone }); !errors.Is(err, gone) || rsp != nil {
			t.Errorf("%x: %x, %v", c, rsp, err)
		}
	}
}

// handleless are commands behind whose header a parameter stands at once, or the authorisation area.
var handleless = map[uint32]bool{
	0x142: true, 0x143: true, 0x144: true, 0x145: true, 0x146: true, 0x161: true, 0x165: true, 0x167: true, 0x178: true, 0x17a: true,
	0x17b: true, 0x17c: true, 0x17d: true, 0x17e: true, 0x181: true, 0x186: true, 0x18a: true, 0x18e: true,
}

// FuzzRun sends any bytes at any locality. Each gets a well-formed response, and what reaches the TPM is a
// well-formed command that does not name the platform.
func FuzzRun(f *testing.F) {
	for _, seed := range [][]byte{
		nil, packet(0x8001, 0x17b, 0, 8), packet(0x8002, 0x129, b(platform, password, 0, 0)...), packet(0x8002, 0x184, b(owner, owner, platform)...),
		packet(0xc1, 0x65, b(uint32(5), uint32(4), uint32(0x115))...), packet(0xc1, 0x46, 0, 0, 0, 8), packet(0xc1, 0x15, 0, 0, 0, 23),
		packet(0xc1, 0x14, make([]byte, 24)...), packet(0xc2, 0x3f, b(uint32(7))...), packet(0x01c1, 0x65),
	} {
		f.Add(byte(0), true, seed, []byte{})
		f.Add(byte(2), false, seed, packet(0x8001, 0, 0, 2, 1, 2))
		f.Add(byte(4), true, seed, packet(0x8001, 0x907))
	}
	f.Fuzz(func(t *testing.T, at byte, second bool, command, answer []byte) {
		g := guard12
		if second {
			g = guard20
		}
		own := false // the response is the TPM's own
		rsp, err := g.Run(tpm.Locality(at), command, func(sent []byte) ([]byte, error) {
			if at != 0 {
				t.Fatalf("locality %d reached the TPM", at)
			}
			if len(sent) < 10 || len(sent) > vtpm.BufferSize || binary.BigEndian.Uint32(sent[2:]) != uint32(len(sent)) {
				t.Fatalf("%x is no command", sent)
			}
			if tag := binary.BigEndian.Uint16(sent); second != (tag>>8 == 0x80) {
				t.Fatalf("%x is of the other family", sent)
			}
			if c := binary.BigEndian.Uint32(sent[6:]); second && len(sent) >= 14 && binary.BigEndian.Uint32(sent[10:]) == platform && !handleless[c] {
				t.Fatalf("%x names the platform", sent)
			}
			own = bytes.Equal(sent, command)
			return answer, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if own {
			if diff := cmp.Diff(answer, rsp); diff != "" {
				t.Fatal(diff)
			}
			return
		}
		if len(rsp) < 10 || len(rsp) > vtpm.BufferSize || binary.BigEndian.Uint32(rsp[2:]) != uint32(len(rsp)) {
			t.Fatalf("%x was answered with %x", command, rsp)
		}
	})
}
