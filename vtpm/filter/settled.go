package filter

import "encoding/binary"

// A firmware in a guest starts the TPM and closes the platform behind itself: SeaBIOS and OVMF give the platform
// hierarchy a random password, or disable it. The manager has done both. SeaBIOS would take the TPM's refusal for
// a broken TPM and measure nothing, which leaves PCRs 0 to 7 to whatever runs next; so what asks for what is so
// already is answered as done.

// Startup with the state that a guest finds: TPM2_Startup(TPM_SU_CLEAR), TPM_Startup(TPM_ST_CLEAR).
const (
	startup20 = "\x80\x01\x00\x00\x00\x0c\x00\x00\x01\x44\x00\x00"
	startup12 = "\x00\xc1\x00\x00\x00\x0c\x00\x00\x00\x99\x00\x01"
)

// emptyPassword is an authorisation area: its length, TPM_RS_PW, no nonce, no attributes, no password.
const emptyPassword = "\x00\x00\x00\x09\x40\x00\x00\x09\x00\x00\x00\x00\x00"

// continueSession is where that attribute stands in emptyPassword. It means nothing for a password.
const continueSession = 10

// settled12 and settled20 are the responses to commands whose aim is reached, nil for all others.
func settled12(command []byte) []byte {
	if string(command) == startup12 {
		return answer12(0)
	}
	return nil
}

func settled20(command []byte) []byte {
	if string(command) == startup20 {
		return answer20(0)
	}
	const auth, params = headerSize + 4, headerSize + 4 + len(emptyPassword)
	if !framed(command) || len(command) < params+2 || binary.BigEndian.Uint16(command) != tagSessions ||
		binary.BigEndian.Uint32(command[headerSize:]) != platform {
		return nil
	}
	password := []byte(string(command[auth:params]))
	password[continueSession] &^= 1
	if string(password) != emptyPassword {
		return nil
	}
	rest := command[params:]
	switch binary.BigEndian.Uint32(command[6:]) {
	case 0x129: // TPM2_HierarchyChangeAuth, with the new password
		if int(binary.BigEndian.Uint16(rest)) != len(rest)-2 {
			return nil
		}
	case 0x121: // TPM2_HierarchyControl: disable the platform
		if string(rest) != "\x40\x00\x00\x0c\x00" {
			return nil
		}
	default:
		return nil
	}
	// No parameters, and the password's acknowledgement (Part 1, clause 18.10).
	return packet(tagSessions, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0)
}
