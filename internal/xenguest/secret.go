package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/device"
	"github.com/antievilmaid/aem/tpm12"
	"github.com/antievilmaid/aem/tpm2"
)

// told are the PCRs in which a guest's vTPM was told what it is.
var told = tpm.PCRSet(1, 4, 5, tpm.PCRCode, tpm.PCRData)

// sealed is what leaves the guest of its secret.
type sealed struct {
	V12    []byte       `json:"v12,omitempty"`
	Object *tpm2.Object `json:"object,omitempty"`
	State  [32]byte     `json:"state"` // of a TPM 2.0's PCRs when it was sealed
}

// own is the PCR that a guest extends as it likes.
const own tpm.PCR = 8

// use does a thing with the guest's TPM: pcrs, log, extend TEXT, seal TEXT, or open BLOB.
func use(words []string) (string, error) {
	c, err := openTheTPM()
	if err != nil {
		return "", err
	}
	defer c.Close()
	v, err := device.Family(c)
	if err != nil {
		return "", err
	}
	switch {
	case len(words) == 1 && words[0] == "pcrs":
		return readPCRs(c, v)
	case len(words) == 1 && words[0] == "log":
		return proveLog(c, v)
	case len(words) == 2 && words[0] == "extend":
		return "done", extend(c, v, words[1])
	case len(words) == 2 && words[0] == "seal":
		s, err := sealSecret(c, v, words[1])
		if err != nil {
			return "", err
		}
		b, err := json.Marshal(s)
		return base64.StdEncoding.EncodeToString(b), err
	case len(words) == 2 && words[0] == "open":
		b, err := base64.StdEncoding.DecodeString(words[1])
		if err != nil {
			return "", err
		}
		var s sealed
		if err := json.Unmarshal(b, &s); err != nil {
			return "", err
		}
		secret, err := openSecret(c, v, &s)
		if errors.Is(err, tpm2.ErrPolicy) || errors.Is(err, tpm12.ErrWrongPCR) {
			err = fmt.Errorf("the TPM refuses: %w", err) // and nothing else went wrong
		}
		return string(secret), err
	}
	return "", errors.New("pcrs, log, extend TEXT, seal TEXT or open BLOB")
}

// bank is the one to seal to.
func bank(v tpm.Version) tpm.Alg {
	if v == tpm.V12 {
		return tpm.SHA1
	}
	return tpm.SHA256
}

func values(c tpm.Channel, v tpm.Version, of tpm.PCRs) (tpm.Banks, error) {
	if v == tpm.V12 {
		return tpm12.New(c).ReadPCRs(of)
	}
	return tpm2.New(c).ReadPCRs(of)
}

func extend(c tpm.Channel, v tpm.Version, text string) error {
	digests := tpm.SumAll([]tpm.Alg{bank(v)}, []byte(text))
	if v == tpm.V12 {
		return tpm12.New(c).Extend(own, digests)
	}
	return tpm2.New(c).Extend(own, digests)
}

func readPCRs(c tpm.Channel, v tpm.Version) (string, error) {
	all := told | tpm.PCRSet(own)
	banks, err := values(c, v, all)
	if err != nil {
		return "", err
	}
	list := map[tpm.PCR]string{}
	for p := range all.All() {
		list[p] = banks.Value(bank(v), p).String()
	}
	b, err := json.Marshal(list)
	return string(b), err
}

func sealSecret(c tpm.Channel, v tpm.Version, text string) (*sealed, error) {
	banks, err := values(c, v, told)
	if err != nil {
		return nil, err
	}
	if v == tpm.V12 {
		chip := tpm12.New(c)
		owned, err := chip.Owned()
		if err == nil && !owned {
			err = chip.TakeOwnership(tpm12.PasswordAuth([]byte("the guest's owner")), tpm12.WellKnown)
		}
		if err != nil {
			return nil, err
		}
		composite, err := tpm12.Composite(told, &banks[0])
		if err != nil {
			return nil, err
		}
		blob, err := chip.Seal(tpm12.WellKnown, tpm12.WellKnown, &tpm12.Release{PCRs: told, Digest: composite}, []byte(text))
		return &sealed{V12: blob}, err
	}
	chip := tpm2.New(c)
	key, err := chip.FindStorageKey()
	if errors.Is(err, tpm2.ErrNoKey) {
		key, err = chip.MakeStorageKey(nil)
	}
	if err != nil {
		return nil, err
	}
	state, err := tpm2.StateOf(banks, []tpm.Alg{tpm.SHA256}, told)
	if err != nil {
		return nil, err
	}
	object, err := chip.Seal(key, &tpm2.Policy{States: []tpm2.State{state}}, nil, []byte(text))
	return &sealed{Object: object, State: state.Digest}, err
}

// openSecret leaves the judgement to the TPM.
func openSecret(c tpm.Channel, v tpm.Version, s *sealed) ([]byte, error) {
	if v == tpm.V12 {
		return tpm12.New(c).Unseal(tpm12.WellKnown, tpm12.WellKnown, s.V12)
	}
	if s.Object == nil {
		return nil, fmt.Errorf("nothing was sealed with a %s", v)
	}
	chip := tpm2.New(c)
	key, err := chip.FindStorageKey()
	if err != nil {
		return nil, err
	}
	policy := &tpm2.Policy{States: []tpm2.State{{Algs: []tpm.Alg{tpm.SHA256}, PCRs: told, Digest: s.State}}}
	return chip.Unseal(key, s.Object, policy, 0, nil)
}
