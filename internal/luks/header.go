package luks

import (
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/antievilmaid/aem/tpm"
)

// A Header is what a volume's header says. Its texts are somebody else's: quote them before
// they reach a terminal.
type Header struct {
	Version   int    // 1 or 2
	UUID      string // of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx
	Label     string // LUKS2; empty where there is none
	Subsystem string // LUKS2; a second label, of the program that made the volume
	Sequence  uint64 // LUKS2: counts the header's writes; not measured
	Detached  bool   // the data do not lie behind this header
	// Length is how many bytes from the start hold the header and all slots. A copy of them
	// is a detached header: who opens the volume with a copy that was measured opens what was
	// measured, whatever the disk answers later.
	Length uint64

	KeySlots []KeySlot // those in use, by number
	Segments []Segment
	Digests  []Digest
	Tokens   []Token

	facts facts
}

// A KeySlot holds the volume key, encrypted with a passphrase.
type KeySlot struct {
	Number   int
	KeySize  int // of the volume key, in bytes
	Priority int // 0: ignored unless asked for by number, 1: normal, 2: tried first
	KDF      KDF
	AFHash   string // of the anti-forensic splitter
	Area     Area
	Material [sha256.Size]byte // SHA-256 of the stripes that cryptsetup reads
}

// KDF is how a passphrase becomes a key.
type KDF struct {
	Type       string // pbkdf2, argon2i or argon2id
	Hash       string // pbkdf2
	Iterations uint32 // argon2: passes
	Memory     uint32 // argon2: KiB
	Threads    uint32 // argon2
	Salt       []byte
}

// Area is where a slot's key material lies, in bytes from the header's start, and how it
// is encrypted.
type Area struct {
	Offset, Size uint64
	Encryption   string
	KeySize      int // bytes
}

// A Segment is a part of the volume with the owner's data.
type Segment struct {
	Number     int
	Offset     uint64 // bytes; 0 with a detached header
	Size       uint64 // bytes; 0: to the device's end
	Encryption string // such as aes-xts-plain64
	SectorSize uint32
}

// A Digest tells whether a key that was opened is the volume's.
type Digest struct {
	Number     int
	KeySlots   []string
	Segments   []string
	Hash       string
	Iterations uint32
}

// A Token says how a slot can be opened without a passphrase: with a TPM, a security key.
type Token struct {
	Number   int
	Type     string
	KeySlots []string
}

// Open reads the header at the start of r, which is a volume, a detached header or what
// luksHeaderBackup wrote; size is its length in bytes. Only what the header needs is read,
// the stripes of the key slots in use among it.
//
// The errors are ErrNotLUKS, ErrDamaged, ErrMalformed, ErrUnsupported (also as a
// *RequirementError), ErrReencrypting, and those of r. With a *CopyError, and with that
// alone, there is a Header too.
func Open(r io.ReaderAt, size int64) (*Header, error) {
	dev := device{r, size}
	start, err := dev.read(0, probeLen)
	if err != nil {
		return nil, err
	}
	switch kind, version := identify(start); {
	case kind == magicReencrypt:
		return nil, fmt.Errorf("%w (the header says that it was taken out of use)", ErrReencrypting)
	case kind == magicPrimary && version == 1:
		return openLUKS1(dev)
	case kind == magicPrimary && version != 2:
		return nil, unsupported("its version is %d", version)
	}
	return openLUKS2(dev)
}

// Measure hashes Canonical, once for each algorithm that is available.
func (h *Header) Measure(algs []tpm.Alg) []tpm.TaggedDigest {
	return tpm.SumAll(algs, h.Canonical())
}

// nullCipher names the cipher that encrypts nothing, where the data have it and lie open, or
// where a key slot has it and any passphrase opens it. It is empty where none has.
func (h *Header) nullCipher() string {
	for _, s := range h.Segments {
		if isNullCipher(s.Encryption) {
			return s.Encryption
		}
	}
	for _, s := range h.KeySlots {
		if isNullCipher(s.Area.Encryption) {
			return s.Area.Encryption
		}
	}
	return ""
}
