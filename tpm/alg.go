package tpm

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"fmt"
	"hash"
	"strings"
)

// Alg is a TPM_ALG_ID: the 16-bit number by which TPMs and logs name a hash
// algorithm (TCG Algorithm Registry, table 3). All 16 bits count; a reader that
// keeps only eight takes 0x010b for SHA-256.
type Alg uint16

// The hash algorithms that a PCR bank may use.
const (
	SHA1    Alg = 0x0004
	SHA256  Alg = 0x000b
	SHA384  Alg = 0x000c
	SHA512  Alg = 0x000d
	SM3     Alg = 0x0012
	SHA3256 Alg = 0x0027
	SHA3384 Alg = 0x0028
	SHA3512 Alg = 0x0029
)

// algInfo is what the registry says of an algorithm. New is nil where this
// program can't compute it; such digests can still be carried and compared.
type algInfo struct {
	alg  Alg
	name string
	size int
	new  func() hash.Hash
}

var algs = []algInfo{
	{SHA1, "sha1", 20, sha1.New},
	{SHA256, "sha256", 32, sha256.New},
	{SHA384, "sha384", 48, sha512.New384},
	{SHA512, "sha512", 64, sha512.New},
	{SM3, "sm3_256", 32, nil},
	{SHA3256, "sha3_256", 32, func() hash.Hash { return sha3.New256() }},
	{SHA3384, "sha3_384", 48, func() hash.Hash { return sha3.New384() }},
	{SHA3512, "sha3_512", 64, func() hash.Hash { return sha3.New512() }},
}

func (a Alg) info() *algInfo {
	for i := range algs {
		if algs[i].alg == a {
			return &algs[i]
		}
	}
	return nil
}

// Size is the digest's length in bytes, or 0 for an algorithm that is not known.
func (a Alg) Size() int {
	if i := a.info(); i != nil {
		return i.size
	}
	return 0
}

// Available reports whether digests of this algorithm can be computed here.
func (a Alg) Available() bool {
	i := a.info()
	return i != nil && i.new != nil
}

// New returns a fresh hash, or nil where Available says no.
func (a Alg) New() hash.Hash {
	if i := a.info(); i != nil && i.new != nil {
		return i.new()
	}
	return nil
}

// Sum hashes the parts as if they stood in one piece, or returns nil where
// Available says no.
func (a Alg) Sum(parts ...[]byte) Digest {
	h := a.New()
	if h == nil {
		return nil
	}
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// String is the name that tpm2-tools and sysfs use, such as sha256.
func (a Alg) String() string {
	if i := a.info(); i != nil {
		return i.name
	}
	return fmt.Sprintf("alg_%#04x", uint16(a))
}

// ParseAlg is the inverse of String, for the known algorithms.
func ParseAlg(s string) (Alg, error) {
	for _, i := range algs {
		if strings.EqualFold(i.name, s) {
			return i.alg, nil
		}
	}
	return 0, fmt.Errorf("%q is not a hash algorithm that this program knows", s)
}
