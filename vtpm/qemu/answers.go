package qemu

import (
	"encoding/binary"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/tpm"
)

// capabilities are what GET_CAPABILITY answers (tpm_ioctl.h, PTM_CAP_*). What is not
// among them QEMU does without: the hash sequence (bit 4), volatile state to a file (6),
// and state to take along (8, 9), for want of which it refuses to migrate.
const capabilities uint64 = 1<<0 | // INIT
	1<<1 | // SHUTDOWN
	1<<2 | // GET_TPMESTABLISHED
	1<<3 | // SET_LOCALITY
	1<<5 | // CANCEL_TPM_CMD
	1<<7 | // RESET_TPMESTABLISHED
	1<<10 | // STOP
	1<<11 | // GET_CONFIG
	1<<12 | // SET_DATAFD
	1<<13 | // SET_BUFFERSIZE
	1<<14 // GET_INFO

// result is an answer that is only a result.
func result(code uint32) []byte { return words(code) }

// words is an answer of 32-bit numbers.
func words(list ...uint32) []byte {
	var b []byte
	for _, w := range list {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

// info is what GET_INFO tells, as swtpm tells it to who asks for nothing: JSON with its
// final zero byte.
const info = "{}\x00"

// infoFrom is GET_INFO's answer to a reader who has read so many bytes: the result, the
// text's length, this part's length, and the part.
func infoFrom(offset uint32) []byte {
	if offset >= uint32(len(info)-1) {
		return result(swtpm.ResultBadParameter)
	}
	return append(words(swtpm.ResultSuccess, uint32(len(info)), uint32(len(info))-offset), info[offset:]...)
}

// minBuffer is the least buffer that libtpms agrees to, in bytes.
func minBuffer(v tpm.Version) int {
	if v == tpm.V12 {
		return 3072
	}
	return 2808
}

// refusal is a TPM's whole response that is only a result code: with TPM 2.0's tag
// (TPM_ST_NO_SESSIONS) or TPM 1.2's (TPM_TAG_RSP_COMMAND).
func refusal(v tpm.Version, of failure) []byte {
	tag, code := uint16(0x8001), of.v20
	if v == tpm.V12 {
		tag, code = 0x00c4, of.v12
	}
	b := binary.BigEndian.AppendUint16(nil, tag)
	b = binary.BigEndian.AppendUint32(b, 10)
	return binary.BigEndian.AppendUint32(b, code)
}

// failure is a result code in the words of both families.
type failure struct{ v20, v12 uint32 }

// What swtpm answers by itself.
var (
	failed    = failure{0x101, 0x09} // TPM_RC_FAILURE, TPM_FAIL: it is off
	wrongSize = failure{0x142, 0x19} // TPM_RC_COMMAND_SIZE, TPM_BAD_PARAM_SIZE
)
