package luks_test

import (
	"errors"
	"testing"

	"github.com/antievilmaid/aem/internal/luks"
)

// Every byte of a LUKS2 header is changed, one at a time, and the checksum mended. What is
// then neither an error nor another measurement is a byte that nobody uses: the list is
// below, and cryptsetup sees the same volume with all of them changed at once.
func TestEveryByteOfLUKS2CountsOrIsUnused(t *testing.T) {
	v := format(t, "luks2", uuidA, "--key-size", "256") // less key material to hash each time
	v.addKey("spare")
	v.cryptsetup("config", "--label", "disk", "--subsystem", "sub", v.path)
	want := v.header()
	clean := v.read()[:4*mib]
	jsonEnd := 4096 + len(v.json())

	unused := func(i int) bool {
		switch {
		case i >= 24+len("disk")+1 && i < 72, // behind the label's end
			i >= 72+len("sha256")+1 && i < 104, // behind the checksum's name
			i >= 104 && i < 168,                // salt
			i >= 168+36+1 && i < 208,           // behind the UUID's end
			i >= 208+len("sub")+1 && i < 256,   // behind the subsystem's end
			i >= 264 && i < 448,                // padding
			i >= 448 && i < 512,                // checksum, which is mended
			i >= 512 && i < 4096:               // padding
			return true
		}
		return false
	}
	// The sequence id, too, is not measured, but decides which copy is used.
	sequence := func(i int) bool { return i >= 16 && i < 24 }

	flip := func(i int, bits byte) {
		clean[i] ^= bits
		clean[i+copyLen] ^= bits
	}
	for i := range jsonEnd + 16 {
		if i > 600 && i < 4096-8 && i%61 != 0 {
			continue // all padding
		}
		for _, bits := range []byte{0x01, 0x20, 0x80} {
			if i >= 4096 && bits == 0x80 {
				continue // never UTF-8 then
			}
			flip(i, bits)
			mend(clean)
			h, err := open(clean)
			flip(i, bits)
			alike := err == nil && same(want, h)
			if alike != (unused(i) || sequence(i)) {
				t.Fatalf("byte %d ^ %#x: measured alike: %v, error %v", i, bits, alike, err)
			}
		}
	}

	dump := v.cryptsetup("luksDump", v.path)
	b := v.read()
	for i := range 2 * copyLen {
		if unused(i % copyLen) {
			b[i] ^= 0x20
		}
	}
	mend(b)
	v.write(b)
	if after := v.cryptsetup("luksDump", v.path); after != dump {
		t.Errorf("cryptsetup sees a difference in bytes that are said to be unused:\n%s\n%s", dump, after)
	}
	v.cryptsetup("open", "--test-passphrase", "--key-file", v.key("owner"), v.path)
	v.cryptsetup("open", "--test-passphrase", "--key-file", v.key("spare"), v.path)
}

// The same without mending: a copy is damaged, and the other one is used.
func TestEveryDamagedByteOfLUKS2IsNoticed(t *testing.T) {
	v := twoSlots(t)
	want := v.header()
	clean := v.read()[:4*mib]
	for _, which := range []int{0, copyLen} {
		for i := 0; i < copyLen; i++ {
			if i > 512 && i%31 != 0 {
				continue // all alike: covered by the checksum alone
			}
			clean[which+i] ^= 0x01
			h, err := open(clean)
			clean[which+i] ^= 0x01
			switch {
			case i >= 448+32 && i < 512: // behind the end of the checksum
				if err != nil {
					t.Fatalf("byte %d: %v", which+i, err)
				}
			case i >= 72 && i <= 78, which == 0 && (i == 6 || i == 7):
				// Another checksum or version: cryptsetup may know it, and use this copy.
				if !errors.Is(err, luks.ErrUnsupported) {
					t.Fatalf("byte %d: %v", which+i, err)
				}
			default:
				if e := isCopyError(t, h, err); !same(want, h) || e.Used == 0 {
					t.Fatalf("byte %d: another measurement with %v", which+i, err)
				}
			}
		}
	}
}

func TestEveryByteOfLUKS1CountsOrIsUnused(t *testing.T) {
	v := format(t, "luks1", uuidA)
	want := v.header()
	clean := v.read()

	unused := func(i int) bool {
		slot, field := (i-208)/48, (i-208)%48
		switch {
		case i >= 8+len("aes")+1 && i < 40,
			i >= 40+len("xts-plain64")+1 && i < 72,
			i >= 72+len("sha256")+1 && i < 104,
			i >= 168+36+1 && i < 208,
			i >= 208 && i < 592 && slot > 0 && field >= 4 && field < 40, // iterations and salt of free slots
			i >= 592: // padding
			return true
		}
		return false
	}
	for i := range 1024 {
		for _, flip := range []byte{0x01, 0x20, 0x80} {
			clean[i] ^= flip
			h, err := open(clean)
			clean[i] ^= flip
			if alike := err == nil && same(want, h); alike != unused(i) {
				t.Fatalf("byte %d ^ %#x: measured alike: %v, error %v", i, flip, alike, err)
			}
		}
	}

	dump := v.cryptsetup("luksDump", v.path)
	b := v.read()
	for i := range 1024 {
		if unused(i) {
			b[i] ^= 0x20
		}
	}
	v.write(b)
	if after := v.cryptsetup("luksDump", v.path); after != dump {
		t.Errorf("cryptsetup sees a difference in bytes that are said to be unused:\n%s\n%s", dump, after)
	}
	v.cryptsetup("open", "--test-passphrase", "--key-file", v.key("owner"), v.path)
}

// Each stripe that cryptsetup reads counts, and no byte behind the last one.
func TestKeyMaterialIsWhatCryptsetupReads(t *testing.T) {
	v := twoSlots(t)
	want := v.header()
	clean := v.read()
	for _, s := range want.KeySlots {
		from, to := int(s.Area.Offset), int(s.Area.Offset)+s.KeySize*4000
		for _, i := range []int{from, from + 1, (from + to) / 2, to - 1} {
			clean[i] ^= 1
			if h, err := open(clean); err != nil || same(want, h) {
				t.Errorf("slot %d, byte %d: measured alike, %v", s.Number, i, err)
			}
			clean[i] ^= 1
		}
		for i := to; i < int(s.Area.Offset+s.Area.Size); i++ {
			clean[i] ^= 1
		}
	}
	if h, err := open(clean); err != nil || !same(want, h) {
		t.Errorf("bytes behind the stripes are measured: %v", err)
	}
	v.write(clean)
	for _, p := range []string{"owner", "spare"} {
		if out, err := v.try("open", "--test-passphrase", "--key-file", v.key(p), v.path); err != nil {
			t.Errorf("cryptsetup reads behind the stripes: %s", out)
		}
	}
	if len(want.KeySlots) != 2 || want.KeySlots[0].Material == want.KeySlots[1].Material {
		t.Error("there are not two slots with material of their own")
	}
}
