package filter_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
	"github.com/antievilmaid/aem/tpm2"
	"github.com/antievilmaid/aem/vtpm/emulator"
	"github.com/antievilmaid/aem/vtpm/filter"
)

// guest is a driver behind the filter.
type guest struct {
	guard filter.Guard
	send  func([]byte) ([]byte, error)
}

func (g guest) Send(command []byte) ([]byte, error) { return g.guard.Run(0, command, g.send) }

// A guest with a firmware hears what libtpms says to a TPM 1.2's command. OVMF asks for ticks, and takes any answer with a
// TPM 1.2's tag for a TPM 1.2.
func TestAFirmwareFindsNoTPM12(t *testing.T) {
	g := guard20
	g.Translate = false
	chip, _ := testbed.NewTPM(t, tpm.V20)
	for _, command := range [][]byte{packet(0xc1, 0xf1), packet(0xc1, 0x99, 0, 1), getCapability(5, 0, 0, 1, 0x15), packet(0xc1, 0x46, 0, 0, 0, 8)} {
		want, err := chip.Send(command)
		if err != nil {
			t.Fatal(err)
		}
		if reached, got := passed(t, g, 0, command); reached || !bytes.Equal(got, want) || bytes.HasPrefix(got, []byte{0, 0xc4}) {
			t.Errorf("%x was answered %x; libtpms answers %x", command, got, want)
		}
	}
}

// getCapability is TPM_GetCapability as Linux's tpm1_getcap sends it.
func getCapability(area uint32, sub ...byte) []byte {
	return packet(0xc1, 0x65, b(area, uint32(len(sub)), sub)...)
}

// linux reads an answer as Linux's tpm1_get_timeouts does: a structure of big-endian words behind the header and
// the length, none of them 0 or so small that it is taken for milliseconds.
func linux(t *testing.T, rsp []byte, n int) []uint32 {
	t.Helper()
	if len(rsp) != 10+4+4*n || !bytes.Equal(rsp[:10], b(0, 0xc4, uint32(len(rsp)), uint32(0))) || binary.BigEndian.Uint32(rsp[10:]) != uint32(4*n) {
		t.Fatalf("%x is not a length and %d words", rsp, n)
	}
	var list []uint32
	for i := range n {
		v := binary.BigEndian.Uint32(rsp[14+4*i:])
		if v < 1000 {
			t.Errorf("value %d is %d µs", i, v)
		}
		list = append(list, v)
	}
	return list
}

func TestTimeLimitsReachTheDriver(t *testing.T) {
	_, rsp := passed(t, guard20, 0, getCapability(5, 0, 0, 1, 0x15))
	if diff := cmp.Diff([]uint32{750_000, 2_000_000, 750_000, 750_000}, linux(t, rsp, 4)); diff != "" {
		t.Errorf("timeouts: %s", diff)
	}
	_, rsp = passed(t, guard20, 0, getCapability(5, 0, 0, 1, 0x20))
	if diff := cmp.Diff([]uint32{3_000_000, 3_000_000, 600_000_000}, linux(t, rsp, 3)); diff != "" {
		t.Errorf("durations: %s", diff)
	}
}

func TestCapabilitiesForSysfs(t *testing.T) {
	for _, c := range []struct {
		name          string
		command, want []byte
	}{
		{"TPM_CAP_PROP_PCR", getCapability(5, 0, 0, 1, 1), b(uint32(4), uint32(24))},
		{"TPM_CAP_PROP_MANUFACTURER", getCapability(5, 0, 0, 1, 3), b(uint32(4), []byte("IBM\x00"))},
		{"TPM_CAP_VERSION", getCapability(6), b(uint32(4), 1, 1, 0, 0)},
		{"TPM_CAP_VERSION_VAL", getCapability(0x1a), b(uint32(15), 0, 0x30, 1, 2, 0, 0, 0, 2, 3, []byte("IBM\x00"), 0, 0)},
	} {
		if _, got := passed(t, guard20, 0, c.command); !bytes.Equal(got, packet(0xc4, 0, c.want...)) {
			t.Errorf("%s: %x, want %x in it", c.name, got, c.want)
		}
	}
}

func TestWhatIsNotTranslated(t *testing.T) {
	for _, c := range []struct {
		name    string
		at      tpm.Locality
		command []byte
		want    uint32
	}{
		{"TPM_Seal", 0, packet(0xc1, 0x17, make([]byte, 40)...), 0x0a},
		{"TPM_ContinueSelfTest", 0, packet(0xc1, 0x53), 0x0a},
		{"swtpm's locality", 0, packet(0xc1, 0x20001000, 4), 0x0a},
		{"TPM_CAP_FLAG", 0, getCapability(4, 0, 0, 1, 8), 0x2c},
		{"a property that there is none of", 0, getCapability(5, 0xff, 0xff, 0xff, 0xff), 0x2c},
		{"a capability with a length that is not its own", 0, packet(0xc1, 0x65, b(uint32(5), uint32(0xffffffff), uint32(0x115))...), 0x19},
		{"half a capability", 0, packet(0xc1, 0x65, b(uint32(5))...), 0x19},
		{"a PCR that there is none of", 0, packet(0xc1, 0x15, b(uint32(24))...), 0x02},
		{"a PCR far away", 0, packet(0xc1, 0x15, b(uint32(0xffffffff))...), 0x02},
		{"half a digest", 0, packet(0xc1, 0x14, make([]byte, 14)...), 0x19},
		{"random bytes of a length of two bytes", 0, packet(0xc1, 0x46, 0, 8), 0x19},
		{"a length that is not its own", 0, append(packet(0xc1, 0x46, 0, 0, 0, 8), 0), 0x19},
		{"less than a header", 0, []byte{0, 0xc1}, 0x19},
		{"another locality", 1, packet(0xc1, 0x46, 0, 0, 0, 8), 0x3d},
	} {
		if reached, got := passed(t, guard20, c.at, c.command); reached || !bytes.Equal(got, packet(0xc4, c.want)) {
			t.Errorf("%s: %x, want code %#x", c.name, got, c.want)
		}
	}
}

// A TPM 2.0 that speaks as a TPM 1.2 is one TPM: what one language extends, the other reads.
func TestTranslatedPCRs(t *testing.T) {
	chip, _ := testbed.NewTPM(t, tpm.V20)
	old := tpm12.New(guest{guard20, chip.Send})
	event := tpm.SumAll([]tpm.Alg{tpm.SHA1}, []byte("an event"))
	if err := old.Extend(10, event); err != nil {
		t.Fatal(err)
	}
	have, err := old.ReadPCRs(tpm.PCRSet(10, 17, 23))
	if err != nil {
		t.Fatal(err)
	}
	want, err := tpm2.New(chip).ReadPCRs(tpm.PCRSet(10, 17, 23))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []tpm.PCR{10, 17, 23} {
		if diff := cmp.Diff(want.Value(tpm.SHA1, p), have.Value(tpm.SHA1, p)); diff != "" {
			t.Errorf("PCR %d: %s", p, diff)
		}
	}
	if want := tpm.SHA1.Sum(make([]byte, 20), event[0].Digest); !have.Value(tpm.SHA1, 10).Equal(want) {
		t.Errorf("PCR 10 is %v, not %v", have.Value(tpm.SHA1, 10), want)
	}
	if !want.Value(tpm.SHA256, 10).All(0) {
		t.Errorf("PCR 10 of the SHA-256 bank is %v: it has no such event", want.Value(tpm.SHA256, 10))
	}
	// What the locality may not extend is refused in the same language.
	rsp, err := guest{guard20, chip.Send}.Send(packet(0xc1, 0x14, b(uint32(17), make([]byte, 20))...))
	if err != nil || !bytes.Equal(rsp, packet(0xc4, 0x3d)) {
		t.Errorf("extending PCR 17: %x, %v", rsp, err)
	}
}

func TestTranslatedRandom(t *testing.T) {
	chip, _ := testbed.NewTPM(t, tpm.V20)
	g := guest{guard20, chip.Send}
	seen := map[string]bool{}
	for _, n := range []uint32{1, 16, 64, 128, 0x10000, 0xffffffff} {
		rsp, err := g.Send(packet(0xc1, 0x46, b(n)...))
		if err != nil || len(rsp) != 14+int(min(n, 64)) || binary.BigEndian.Uint32(rsp[10:]) != min(n, 64) {
			t.Errorf("%d bytes: %x, %v", n, rsp, err)
			continue
		}
		if n < 16 {
			continue
		}
		if seen[string(rsp[14:30])] {
			t.Error("the same bytes twice")
		}
		seen[string(rsp[14:30])] = true
	}
}

// A TPM that answers with more than it was asked for does not get into a driver's buffer.
func TestTooMuchRandom(t *testing.T) {
	g := guest{guard20, func([]byte) ([]byte, error) { return packet(0x8001, 0, b(0, 9, make([]byte, 9))...), nil }}
	if rsp, err := g.Send(packet(0xc1, 0x46, b(uint32(8))...)); err != nil || !bytes.Equal(rsp, packet(0xc4, 0x09)) {
		t.Errorf("%x, %v", rsp, err)
	}
}

// A TPM without a SHA-1 bank has no PCRs for a TPM 1.2's driver, and no extend is lost in it without a word.
func TestNoSHA1Bank(t *testing.T) {
	extended := false
	g := guest{guard20, func(command []byte) ([]byte, error) {
		if binary.BigEndian.Uint32(command[6:]) == 0x182 {
			extended = true
		}
		// TPM2_PCR_Read with nothing selected.
		return packet(0x8001, 0, b(uint32(20), uint32(1), 0, 4, 3, 0, 0, 0, uint32(0))...), nil
	}}
	for _, c := range [][]byte{packet(0xc1, 0x15, b(uint32(10))...), packet(0xc1, 0x14, b(uint32(10), make([]byte, 20))...)} {
		if rsp, err := g.Send(c); err != nil || !bytes.Equal(rsp, packet(0xc4, 0x02)) {
			t.Errorf("%x: %x, %v", c, rsp, err)
		}
	}
	if extended {
		t.Error("a bank was extended that is not there")
	}
}

// The list of commands is the TPM's own: each has the number of handles that the TPM itself tells, and what the
// TPM has and the list does not is refused on purpose.
func TestCommandsAreTheTPMs(t *testing.T) {
	chip, _ := testbed.NewTPM(t, tpm.V20)
	left := map[uint32]bool{0x11f: true, 0x124: true, 0x125: true, 0x12b: true, 0x12c: true, 0x12d: true, 0x12f: true, 0x130: true, 0x13f: true,
		0x141: true, 0x179: true, 0x198: true, 0x20000000: true}
	const tpmCapCommands = 2
	rsp, err := chip.Send(packet(0x8001, 0x17a, b(uint32(tpmCapCommands), uint32(0x11f), uint32(256))...))
	if err != nil || len(rsp) < 19 {
		t.Fatalf("%x, %v", rsp, err)
	}
	n := int(binary.BigEndian.Uint32(rsp[15:]))
	if n < 90 || len(rsp) != 19+4*n {
		t.Fatalf("%d commands in %d bytes", n, len(rsp))
	}
	for i := range n {
		attributes := binary.BigEndian.Uint32(rsp[19+4*i:]) // TPMA_CC
		command, handles := attributes&0x2000ffff, int(attributes>>25&7)
		// As many owners as it has handles pass; one less, and it has too few. One more at most shows if the list says less.
		all := bytes.Repeat(b(owner), handles)
		reached, answer := passed(t, guard20, 0, packet(0x8001, command, all...))
		if left[command] {
			if reached || !bytes.Equal(answer, packet(0x8001, 0x143)) {
				t.Errorf("command %#x: %x", command, answer)
			}
			continue
		}
		if !reached {
			t.Errorf("command %#x with %d handles is not let through: %x", command, handles, answer)
			continue
		}
		if handles > 0 {
			last := append(all[:4*(handles-1)], b(platform)...)
			if reached, _ := passed(t, guard20, 0, packet(0x8001, command, last...)); reached {
				t.Errorf("command %#x: its handle %d is not looked at", command, handles)
			}
		}
		if reached, _ := passed(t, guard20, 0, packet(0x8001, command, append(bytes.Repeat(b(owner), handles), b(platform)...)...)); !reached {
			t.Errorf("command %#x: a parameter is taken for a handle", command)
		}
	}
}

// What a hostile guest tries against its identity, through the filter and with it gone.
func TestIdentityOutlivesAttempts(t *testing.T) {
	testbed.Need(t, "swtpm")
	h, err := emulator.NewHost(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	ctx := context.Background()
	cfg := emulator.Config{Version: tpm.V20, Key: make([]byte, emulator.KeySize), UID: 20003, GID: 20003}
	if cfg.State, err = h.Create(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	e, err := h.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Kill()
	if err := e.PowerOn(ctx, emulator.Inheritance{}); err != nil {
		t.Fatal(err)
	}
	send := func(command []byte) ([]byte, error) {
		rsp, _, err := e.Execute(ctx, 0, command)
		return rsp, err
	}
	g := guest{guard20, send}
	name := func() string {
		n, err := tpm2.New(g).EndorsementName()
		if err != nil {
			t.Fatal(err)
		}
		return string(n)
	}
	who := name()
	for _, try := range []func([]byte) ([]byte, error){g.Send, send} {
		for _, c := range [][]byte{
			packet(0x8001, 0x144, 0, 0),
			packet(0x8002, 0x129, b(platform, password, 0, 1, 'x')...), // a password of the guest's
			packet(0x8002, 0x124, b(platform, password)...),
			packet(0x8002, 0x124, b(platform, uint32(10), uint32(0x40000009), 0, 0, 0, 0, 1, 'x')...),
			packet(0x8002, 0x125, b(platform, password)...),
			packet(0x8002, 0x126, b(platform, password)...),
			packet(0x8001, 0x145, 0, 0),
		} {
			if _, err := try(c); err != nil {
				t.Fatal(err)
			}
		}
	}
	if name() != who {
		t.Error("the guest changed its TPM's identity")
	}
}
