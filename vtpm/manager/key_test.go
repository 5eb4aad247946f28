package manager_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm/manager"
	"github.com/antievilmaid/aem/vtpm/store"
)

// Each source alone makes another key; a TPM that gives zeros, the same again, or nothing leaves what the kernel gives.
func TestAKeyIsMixedOfBothSources(t *testing.T) {
	kernel, other := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	seen := map[string]string{}
	for name, key := range map[string][]byte{
		"both":                         manager.Mix(kernel, other),
		"another kernel's":             manager.Mix(other, other),
		"another TPM's":                manager.Mix(kernel, kernel),
		"a TPM of zeros":               manager.Mix(kernel, make([]byte, 32)),
		"a TPM of zeros, another time": manager.Mix(other, make([]byte, 32)),
	} {
		if len(key) != store.KeySize {
			t.Errorf("%s: a key of %d bytes", name, len(key))
		}
		if with := seen[string(key)]; with != "" {
			t.Errorf("%s and %s make one key", name, with)
		}
		seen[string(key)] = name
		if bytes.Contains(key, kernel[:8]) || bytes.Contains(key, other[:8]) {
			t.Errorf("%s: a source is the key", name)
		}
	}
	// RFC 5869 takes a salt that is missing for zeros.
	if !bytes.Equal(manager.Mix(kernel, nil), manager.Mix(kernel, make([]byte, 32))) {
		t.Error("a TPM that gives nothing counts for something")
	}
}

// A vTPM that is made asks the hardware's TPM once. One that is broken does not keep it from being made, and does not make two
// keys alike.
func TestTheHardwareTPMIsAskedForANewKey(t *testing.T) {
	h := newHost(t)
	keys := map[string]bool{}
	asked := 0
	for _, random := range []func(int) ([]byte, error){
		func(n int) ([]byte, error) { asked++; return make([]byte, n), nil },
		func(n int) ([]byte, error) { asked++; return make([]byte, n), nil },
		func(int) ([]byte, error) { asked++; return nil, errors.New("the TPM is busy") },
	} {
		h.Random = random
		r, err := h.Store.Get(h.create(tpm.V20, manager.Policy{}))
		must(t, err)
		keys[string(r.Key)] = true
	}
	if asked != 3 || len(keys) != 3 {
		t.Errorf("it was asked %d times for %d keys", asked, len(keys))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if got := strings.Join(h.happened, " "); got != "created created created" {
		t.Errorf("told was: %s", got)
	}
}
