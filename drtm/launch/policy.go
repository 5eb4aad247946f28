package launch

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/tpm"
)

// MaxPolicy bounds a policy's file, in bytes.
const MaxPolicy = 1 << 20

// Policy names what may be launched (docs/formats/launch.md). It is signed by an owner
// whose key is on no machine that it is for.
type Policy struct {
	// Version grows with each policy.
	Version uint64    `json:"version"`
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
	// Hash is the algorithm of all digests: sha256, sha384 or sha512.
	Hash     string     `json:"hash"`
	Approved []Approved `json:"approved"`
}

// Approved is one launch that may take place: all that a stage measures, in order.
type Approved struct {
	Label string `json:"label"` // for a person
	Parts []Part `json:"parts"`
}

// Part is one measurement of an approved launch.
type Part struct {
	PCR    tpm.PCR `json:"pcr"`
	What   string  `json:"what"`   // the event's text
	Digest string  `json:"digest"` // in small hexadecimal digits
}

// Errors that say why a policy does not approve; each comes with [ErrNotApproved].
var (
	// ErrNotApproved: no policy approves of the stage.
	ErrNotApproved = errors.New("the launch policy does not approve of this launch")
	// ErrPolicy: the file is no policy.
	ErrPolicy = errors.New("the launch policy can't be read")
	// ErrUnsigned: nobody signed it.
	ErrUnsigned = errors.New("the launch policy is not signed")
	// ErrWrongKey: it says itself that another key signed it.
	ErrWrongKey = errors.New("the launch policy is signed with another key")
	// ErrSignature: the signature is not one of what is in the file.
	ErrSignature = errors.New("the launch policy's signature is false: the file was changed, or the key that it names did not sign it")
	// ErrExpired and ErrNotYet: by this machine's clock.
	ErrExpired = errors.New("the launch policy has expired")
	ErrNotYet  = errors.New("the launch policy is not issued yet, or this machine's clock is behind")
	// ErrOldPolicy: the version is below the lowest that is taken.
	ErrOldPolicy = errors.New("the launch policy is older than is allowed")
	// ErrNotListed: the policy is in order, and names other launches.
	ErrNotListed = errors.New("it is none of the launches that the policy names")
)

// A policy's file begins with these lines, and the rest of it is JSON. What is signed
// is the first line and that rest, so that the signature can't be taken for one of
// anything else.
const (
	policyTitle     = "aem launch policy 1\n"
	policyKey       = "key "
	policySignature = "signature "
)

// Sign writes a policy's file.
func (p *Policy) Sign(key ed25519.PrivateKey) ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	body, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	body = append(body, '\n')
	public := key.Public().(ed25519.PublicKey)
	signature := ed25519.Sign(key, append([]byte(policyTitle), body...))
	file := fmt.Appendf(nil, "%s%s%x\n%s%x\n%s", policyTitle, policyKey, public, policySignature, signature, body)
	if _, err := ReadPolicy(file, public); err != nil {
		return nil, fmt.Errorf("read the policy that was just signed: %w", err)
	}
	return file, nil
}

// ReadPolicy reads a policy that a key has signed. Of a file that it has not signed
// nothing is looked at but whose signature it claims to have.
func ReadPolicy(file []byte, key ed25519.PublicKey) (*Policy, error) {
	claimed, signature, body, err := split(file)
	switch {
	case err != nil:
		return nil, err
	case len(key) != ed25519.PublicKeySize:
		return nil, fmt.Errorf("%w: the key has %d bytes", ErrKey, len(key))
	case !bytes.Equal(claimed, key):
		return nil, fmt.Errorf("%w: it names %x, and %x is demanded", ErrWrongKey, claimed, key)
	case !ed25519.Verify(key, append([]byte(policyTitle), body...), signature):
		return nil, ErrSignature
	}
	var p *Policy
	if err := decode(body, MaxPolicy, &p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	if err := p.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	return p, nil
}

// PolicyKey is the key that a policy claims to be signed with, which everybody can claim.
func PolicyKey(file []byte) (ed25519.PublicKey, error) {
	key, _, _, err := split(file)
	return key, err
}

func split(file []byte) (key, signature, body []byte, err error) {
	if len(file) > MaxPolicy {
		return nil, nil, nil, fmt.Errorf("%w: it has more than %d bytes", ErrPolicy, MaxPolicy)
	}
	rest, ok := bytes.CutPrefix(file, []byte(policyTitle))
	if !ok {
		if bytes.HasPrefix(bytes.TrimSpace(file), []byte("{")) {
			return nil, nil, nil, ErrUnsigned
		}
		return nil, nil, nil, fmt.Errorf("%w: it does not begin with %q", ErrPolicy, strings.TrimSpace(policyTitle))
	}
	if key, rest, ok = hexLine(rest, policyKey, ed25519.PublicKeySize); !ok {
		return nil, nil, nil, fmt.Errorf("%w: its second line names no key", ErrUnsigned)
	}
	if signature, rest, ok = hexLine(rest, policySignature, ed25519.SignatureSize); !ok {
		return nil, nil, nil, fmt.Errorf("%w: its third line is no signature", ErrUnsigned)
	}
	return key, signature, rest, nil
}

// hexLine takes a line of a word and so many bytes in small hexadecimal digits.
func hexLine(b []byte, word string, size int) (value, rest []byte, ok bool) {
	line, rest, ok := bytes.Cut(b, []byte("\n"))
	digits, named := bytes.CutPrefix(line, []byte(word))
	value = make([]byte, size)
	if !ok || !named || len(digits) != hex.EncodedLen(size) || bytes.ContainsAny(digits, "ABCDEF") {
		return nil, nil, false
	}
	if _, err := hex.Decode(value, digits); err != nil {
		clear(value)
		return nil, nil, false
	}
	return value, rest, true
}

// Alg is the algorithm of the policy's digests.
func (p *Policy) Alg() tpm.Alg {
	a, _ := tpm.ParseAlg(p.Hash)
	return a
}

func (p *Policy) check() error {
	switch a := p.Alg(); {
	case p.Version == 0:
		return errors.New("its version is not at least 1")
	case p.Issued.IsZero() || p.Expires.IsZero():
		return errors.New("it does not say from when to when it holds")
	case !p.Issued.Before(p.Expires):
		return errors.New("it expires before it is issued")
	case a != tpm.SHA256 && a != tpm.SHA384 && a != tpm.SHA512 || p.Hash != a.String():
		return fmt.Errorf("its hash is %q, not sha256, sha384 or sha512", p.Hash)
	}
	for i, l := range p.Approved {
		if l.Label == "" || strings.ContainsFunc(l.Label, unicode.IsControl) {
			return fmt.Errorf("launch %d has no label that could be printed", i+1)
		}
		if len(l.Parts) == 0 {
			return fmt.Errorf("the launch %q has no parts", l.Label)
		}
		for _, x := range l.Parts {
			d, err := hex.DecodeString(x.Digest)
			if err != nil || len(d) != p.Alg().Size() || x.Digest != hex.EncodeToString(d) {
				return fmt.Errorf("the launch %q has a part whose digest is none of %s", l.Label, p.Hash)
			}
			if x.PCR != tpm.PCRCode && x.PCR != tpm.PCRData {
				return fmt.Errorf("the launch %q has a part in PCR %d", l.Label, x.PCR)
			}
		}
	}
	return nil
}

// Holds says whether the policy is one to go by: not below the oldest version that is
// taken, issued, and not expired. A machine's clock can be set by whoever has the
// machine; it is one obstacle more, and no proof.
func (p *Policy) Holds(now time.Time, oldest uint64) error {
	switch {
	case p.Version < oldest:
		return fmt.Errorf("%w: it is version %d, and %d is the oldest that is taken", ErrOldPolicy, p.Version, oldest)
	case now.Before(p.Issued):
		return fmt.Errorf("%w: it holds from %s, and the clock says %s", ErrNotYet, p.Issued.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case !now.Before(p.Expires):
		return fmt.Errorf("%w: on %s, and the clock says %s", ErrExpired, p.Expires.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// Approve makes the entry that approves of a stage, from the measurements that a launch
// of it makes.
func Approve(label string, s *drtm.Stage, a tpm.Alg) (Approved, error) {
	ms, err := s.Measurements([]tpm.Alg{a})
	return Approved{Label: label, Parts: parts(ms, a)}, err
}

func parts(ms []drtm.Measurement, a tpm.Alg) []Part {
	var list []Part
	for _, m := range ms {
		list = append(list, Part{PCR: m.PCR, What: string(m.Data), Digest: tpm.Find(m.Digests, a).String()})
	}
	return list
}

// Lists returns the label of the launch that is this one, all parts of it. Otherwise
// the error, which wraps [ErrNotListed], names what differs from the launch that is
// most like it.
func (p *Policy) Lists(ms []drtm.Measurement) (string, error) {
	have := parts(ms, p.Alg())
	best, bestSame := "", -1
	var differs []string
	for _, l := range p.Approved {
		if slices.Equal(l.Parts, have) {
			return l.Label, nil
		}
		same := 0
		var other []string
		for i, x := range have {
			if i < len(l.Parts) && l.Parts[i] == x {
				same++
				continue
			}
			other = append(other, ms[i].Role.String())
		}
		if same > bestSame {
			best, bestSame, differs = l.Label, same, other
		}
	}
	if bestSame < 0 {
		return "", fmt.Errorf("%w: it names none", ErrNotListed)
	}
	if len(differs) == 0 {
		differs = []string{"something is missing"}
	}
	return "", fmt.Errorf("%w; most like it is %q, from which it differs in: %s", ErrNotListed, best, strings.Join(slices.Compact(differs), ", "))
}
