package luks_test

import (
	"encoding/binary"
	"os"
	"testing"
)

// golden2 is a LUKS2 header with the JSON text of testdata/luks2.json: what cryptsetup
// 2.6.1 wrote for one volume with two slots, flags and tokens.
func golden2(t testing.TB) []byte {
	json, err := os.ReadFile("testdata/luks2.json")
	if err != nil {
		t.Fatal(err)
	}
	return build(string(json), 2*mib)
}

// golden1 is a LUKS1 header with slots 0 and 2 in use.
func golden1() []byte {
	b := make([]byte, 3*mib)
	for i := 4096; i < len(b); i++ {
		b[i] = byte(i*31>>3 ^ i>>16)
	}
	copy(b, "LUKS\xba\xbe\x00\x01")
	copy(b[8:], "aes")
	copy(b[40:], "xts-plain64")
	copy(b[72:], "sha256")
	be := binary.BigEndian
	be.PutUint32(b[104:], 4096)
	be.PutUint32(b[108:], 64)
	copy(b[112:], "digest of 20 bytes..")
	copy(b[132:], "salt of the digest, of 32 bytes.")
	be.PutUint32(b[164:], 1000)
	copy(b[168:], uuidB)
	for i := range 8 {
		s := b[208+48*i:]
		be.PutUint32(s, 0xdead)
		if i == 0 || i == 2 {
			be.PutUint32(s, 0x00ac71f3)
			be.PutUint32(s[4:], uint32(100000+i))
			copy(s[8:], "salt of key slot . of 32 bytes..")
			s[24] = byte('0' + i)
		}
		be.PutUint32(s[40:], uint32(8+504*i))
		be.PutUint32(s[44:], 4000)
	}
	return b
}
