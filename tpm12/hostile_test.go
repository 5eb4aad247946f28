package tpm12_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
)

// fake is a TPM that answers as a test wants.
type fake func(cmd []byte) []byte

func (f fake) Send(cmd []byte) ([]byte, error) { return f(cmd), nil }

func response(tag uint16, code uint32, body []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, tag)
	b = binary.BigEndian.AppendUint32(b, uint32(10+len(body)))
	b = binary.BigEndian.AppendUint32(b, code)
	return append(b, body...)
}

// between is somebody who sits between the TPM and the program and changes the
// answers to one command.
type between struct {
	tpm.Channel
	ordinal uint32
	change  func(rsp []byte) []byte
}

func (b between) Send(cmd []byte) ([]byte, error) {
	ord := binary.BigEndian.Uint32(cmd[6:])
	rsp, err := b.Channel.Send(cmd)
	if err == nil && ord == b.ordinal {
		rsp = b.change(rsp)
	}
	return rsp, err
}

const ordOIAP, ordUnseal, ordReadPubek = 0x0a, 0x18, 0x7c

func TestAnswersWithoutTheirHMACsAreRefused(t *testing.T) {
	c, chip := owned(t, "image")
	blob, err := chip.Seal(tpm12.WellKnown, pin, nil, secret)
	ok(t, err)
	for name, change := range map[string]func(rsp []byte) []byte{
		"both cut off":       func(r []byte) []byte { return response(0xc4, 0, r[10:len(r)-82]) },
		"the second cut off": func(r []byte) []byte { return response(0xc5, 0, r[10:len(r)-41]) },
		"no room for them":   func([]byte) []byte { return response(0xc6, 0, make([]byte, 81)) },
	} {
		got, err := tpm12.New(between{c, ordUnseal, change}).Unseal(tpm12.WellKnown, pin, blob)
		if got != nil || !errors.Is(err, tpm12.ErrResponse) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	same := func(r []byte) []byte { return r }
	got, err := tpm12.New(between{c, ordUnseal, same}).Unseal(tpm12.WellKnown, pin, blob)
	if err != nil || !bytes.Equal(got, secret) {
		t.Errorf("unchanged: %q, %v", got, err)
	}
}

func TestAnEndorsementKeyThatWasChangedOrReplayedIsRefused(t *testing.T) {
	c, _ := testbed.NewTPM(t, tpm.V12)
	var last []byte
	_, err := tpm12.New(between{c, ordReadPubek, func(r []byte) []byte { last = bytes.Clone(r); return r }}).ReadEK()
	ok(t, err)
	for name, change := range map[string]func(r []byte) []byte{
		"a flipped bit of the key": func(r []byte) []byte { r[len(r)-30] ^= 1; return r },
		"an earlier answer":        func([]byte) []byte { return last },
		"nothing but the checksum": func([]byte) []byte { return response(0xc4, 0, make([]byte, 20)) },
	} {
		refused(t, name, second(tpm12.New(between{c, ordReadPubek, change}).ReadEK()), tpm12.ErrResponse)
	}
}

// The secret and the new authorisation values go into command buffers, which
// must not stay in memory.
func TestCommandsAreWipedAfterwards(t *testing.T) {
	c, _ := owned(t, "image")
	var sent [][]byte
	_, err := tpm12.New(recorder{c, &sent}).Seal(tpm12.WellKnown, pin, nil, secret)
	ok(t, err)
	if len(sent) == 0 {
		t.Fatal("nothing was sent")
	}
	for _, cmd := range sent {
		if bytes.Count(cmd, []byte{0}) != len(cmd) {
			t.Errorf("a command of %d bytes was left in memory", len(cmd))
		}
	}
}

type recorder struct {
	tpm.Channel
	sent *[][]byte
}

func (r recorder) Send(cmd []byte) ([]byte, error) {
	*r.sent = append(*r.sent, cmd)
	return r.Channel.Send(cmd)
}

func TestABusyTPMIsAskedAgain(t *testing.T) {
	var asked, tested int
	chip := tpm12.New(fake(func(cmd []byte) []byte {
		if binary.BigEndian.Uint32(cmd[6:]) == 0x53 { // TPM_ContinueSelfTest
			tested++
			return response(0xc4, 0, nil)
		}
		asked++
		if asked <= 3 {
			return response(0xc4, 0x7ff+uint32(asked), nil) // TPM_RETRY, TPM_NEEDS_SELFTEST, TPM_DOING_SELFTEST
		}
		return response(0xc4, 0, []byte{0, 0, 0, 1, 1})
	}))
	yes, err := chip.Owned()
	if err != nil || !yes || asked != 4 || tested != 1 {
		t.Errorf("owned %t, %v; asked %d times, %d self-tests", yes, err, asked, tested)
	}
}

func TestATPM20IsNamedWhateverItSays(t *testing.T) {
	c, _ := testbed.NewTPM(t, tpm.V20)
	refused(t, "a command with a session", tpm12.New(c).OwnerClear(owner), tpm12.ErrOtherFamily)
	for name, rsp := range map[string][]byte{
		"TPM_RC_BAD_TAG, as the specification has it": response(0xc4, 0x1e, nil),
		"an answer without sessions":                  response(0x8001, 0x84, nil),
		"an answer with sessions":                     response(0x8002, 0, make([]byte, 9)),
	} {
		chip := tpm12.New(fake(func([]byte) []byte { return rsp }))
		refused(t, name, second(chip.Owned()), tpm12.ErrOtherFamily)
	}
}

func TestAManufacturersNameCannotSteerATerminal(t *testing.T) {
	chip := tpm12.New(fake(func([]byte) []byte {
		return response(0xc4, 0, append([]byte{0, 0, 0, 4}, "\x1b[2J"...))
	}))
	if name, err := chip.Manufacturer(); err != nil || name != "2J" {
		t.Errorf("it became %q, %v", name, err)
	}
}

// Some chips keep the numbers to themselves (TPM_DA_INFO_LIMITED).
func TestALimitedDefenceTellsTheLockAlone(t *testing.T) {
	info := []byte{0, 0x38, 1, 0, 0x39, 0, 0, 0, 1, 0, 0, 0, 0}
	chip := tpm12.New(fake(func([]byte) []byte {
		return response(0xc4, 0, append([]byte{0, 0, 0, byte(len(info))}, info...))
	}))
	if d, err := chip.Defence(); err != nil || d != (tpm12.Defence{Locked: true}) {
		t.Errorf("%+v, %v", d, err)
	}
	info[1] = 0x36
	refused(t, "a structure of another kind", second(chip.Defence()), tpm12.ErrResponse)
}

// A TPM has room for a handful of sessions, and not every chip ends them at a
// refusal. Whatever happened, as many are open as before.
func TestRefusalsCloseTheirSessions(t *testing.T) {
	c, chip := owned(t, "image")
	blob, err := chip.Seal(tpm12.WellKnown, pin, nil, secret)
	ok(t, err)
	before := sessions(t, c)
	refused(t, "a wrong password", second(chip.Unseal(tpm12.WellKnown, wrong, blob)), tpm12.ErrAuth2Fail)
	refused(t, "an area that nobody defined", second(chip.NVReadAuth(0x7777, 0, 4, pin)), tpm12.ErrBadIndex)
	// The second of Unseal's sessions can't be opened: the first has to be closed.
	n := 0
	noSecond := between{c, ordOIAP, func(r []byte) []byte {
		if n++; n == 2 {
			hidden := binary.BigEndian.Uint32(r[10:])
			ok(t, flush(c, hidden))
			return response(0xc4, 21, nil)
		}
		return r
	}}
	refused(t, "no room for a session", second(tpm12.New(noSecond).Unseal(tpm12.WellKnown, pin, blob)), tpm12.ErrResources)
	// The refusal is invented, so the real session is still open when it is reported.
	cut := between{c, ordUnseal, func(r []byte) []byte { return r[:12] }}
	if _, err := tpm12.New(cut).Unseal(tpm12.WellKnown, pin, blob); err == nil {
		t.Error("an answer of 12 bytes was taken")
	}
	if after := sessions(t, c); after != before {
		t.Errorf("%d sessions were open before, %d are afterwards", before, after)
	}
}

// sessions counts the open sessions (TPM_CAP_HANDLE, TPM_RT_AUTH).
func sessions(t *testing.T, c tpm.Channel) int {
	t.Helper()
	rsp, err := c.Send([]byte{0, 0xc1, 0, 0, 0, 22, 0, 0, 0, 0x65, 0, 0, 0, 0x14, 0, 0, 0, 4, 0, 0, 0, 2})
	ok(t, err)
	if len(rsp) < 16 || binary.BigEndian.Uint32(rsp[6:]) != 0 {
		t.Fatalf("the list of sessions is %x", rsp)
	}
	return int(binary.BigEndian.Uint16(rsp[14:]))
}

func flush(c tpm.Channel, handle uint32) error {
	cmd := binary.BigEndian.AppendUint32([]byte{0, 0xc1, 0, 0, 0, 18, 0, 0, 0, 0xba}, handle)
	rsp, err := c.Send(append(cmd, 0, 0, 0, 2))
	if err == nil && !bytes.Equal(rsp[6:10], make([]byte, 4)) {
		err = errors.New("the session was not there")
	}
	return err
}
