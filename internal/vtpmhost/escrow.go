package vtpmhost

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/antievilmaid/aem/internal/journal"
	"github.com/antievilmaid/aem/vtpm/root"
)

// ErrRecipients says that there is nobody to encrypt an escrow to.
var ErrRecipients = errors.New("an escrow is encrypted to public keys of age's, one in each line, which age-keygen -y prints; those of plugins and of ssh are not taken")

// EncryptEscrow is what opens the store without its TPM, encrypted to public keys of age's, as letters and
// digits. It also returns these keys.
func EncryptEscrow(r *root.Root, keys string) (file []byte, to []string, err error) {
	recipients, err := age.ParseRecipients(strings.NewReader(keys))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrRecipients, err)
	}
	for _, x := range recipients {
		to = append(to, fmt.Sprint(x))
	}
	secret, err := r.Escrow()
	if err != nil {
		return nil, nil, err
	}
	defer clear(secret)
	var out bytes.Buffer
	letters := armor.NewWriter(&out)
	// age may leave a copy in memory, where the key is as long as the root is open.
	w, err := age.Encrypt(letters, recipients...)
	if err == nil {
		_, err = w.Write(secret)
	}
	if err == nil {
		err = errors.Join(w.Close(), letters.Close())
	}
	if err != nil {
		return nil, nil, fmt.Errorf("encrypt the escrow: %w", err)
	}
	return out.Bytes(), to, nil
}

// ErrNoEscrow says that an escrow does not open: it is none, it is damaged, or the identity is another's.
var ErrNoEscrow = errors.New("the escrow does not open")

// OpenEscrow opens an escrow with the identity that it was made for: a file of age-keygen's, which
// may itself be encrypted with a passphrase. What it returns is the caller's to wipe. age keeps a copy of it, so
// that a program which opens an escrow should end soon.
func OpenEscrow(file, identity []byte, passphrase func() ([]byte, error)) ([]byte, error) {
	identities, err := openIdentity(identity, passphrase)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(file, []byte(armor.Header)) {
		return nil, fmt.Errorf("%w: the file is no escrow, or its beginning is damaged", ErrNoEscrow)
	}
	secret, err := decrypt(file, identities...)
	if none := (*age.NoIdentityMatchError)(nil); errors.As(err, &none) {
		return nil, fmt.Errorf("%w: it was made for another identity than this one", ErrNoEscrow)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: it is damaged: %w", ErrNoEscrow, err)
	}
	if _, key, err := root.Escrowed(secret); err != nil {
		clear(secret)
		return nil, fmt.Errorf("%w: %w", ErrNoEscrow, err)
	} else {
		clear(key)
	}
	return secret, nil
}

// maxEscrow bounds what is decrypted; an escrow has less than a kilobyte.
const maxEscrow = 1 << 16

func decrypt(file []byte, identities ...age.Identity) ([]byte, error) {
	var in io.Reader = bytes.NewReader(file)
	if bytes.HasPrefix(file, []byte(armor.Header)) {
		in = armor.NewReader(in)
	}
	out, err := age.Decrypt(in, identities...)
	if err != nil {
		return nil, err
	}
	secret := make([]byte, maxEscrow) // of which no smaller one was left behind
	n, err := io.ReadFull(out, secret)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return secret[:n:n], nil
	case err == nil:
		err = errors.New("it is too long")
	}
	clear(secret)
	return nil, err
}

// openIdentity reads a file of identities.
func openIdentity(file []byte, passphrase func() ([]byte, error)) ([]age.Identity, error) {
	if bytes.HasPrefix(file, []byte("age-encryption.org/")) || bytes.HasPrefix(file, []byte(armor.Header)) {
		word, err := passphrase()
		if err != nil {
			return nil, err
		}
		defer clear(word)
		locked, err := age.NewScryptIdentity(string(word))
		if err != nil {
			return nil, errors.New("the identity's passphrase is empty")
		}
		clearText, err := decrypt(file, locked)
		if none := (*age.NoIdentityMatchError)(nil); errors.As(err, &none) {
			return nil, errors.New("the identity does not open with this passphrase")
		}
		if err != nil {
			return nil, fmt.Errorf("open the identity: %w", err)
		}
		defer clear(clearText)
		file = clearText
	}
	identities, err := age.ParseIdentities(bytes.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("read the identity, which is a file of age-keygen's: %w", err)
	}
	return identities, nil
}

// LastEscrow is the last escrow that was made of the store on this TPM, by the journal; nil where there is
// none.
func LastEscrow(j *journal.Journal) (*journal.Entry, error) {
	var last *journal.Entry
	for e, err := range j.Entries() {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return last, err
		}
		switch e.Kind {
		case journal.Escrowed:
			last = &e
		case journal.SetUp, journal.Moved:
			last = nil // another store, or another TPM
		}
	}
	return last, nil
}
