package main

import (
	"bytes"
	"context"
	"crypto/pbkdf2"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/vtpm/emulator"
	"github.com/antievilmaid/aem/vtpm/store"
)

func importCommand(c *control) *cobra.Command {
	m := &making{}
	var keyFile, passwordFile string
	cmd := &cobra.Command{
		Use:   "import STATE",
		Short: "Make a vTPM that goes on where another program's swtpm stopped",
		Long: `import takes the state of a TPM that libvirt, or you, ran with swtpm: the folder or the file with
tpm2-00.permall or tpm-00.permall in it (libvirt's are below /var/lib/libvirt/swtpm). The guest keeps its TPM's
identity and all that it sealed. Where the state is encrypted, give the key (swtpm's --key) or the password
(--key pwdfile=, libvirt's secret).

The swtpm that had it must have ended. What it left behind is not removed, and is the same TPM a second time: remove
it, and its copies, when the guest runs with the new one. Not taken over: swtpm's one-file backend, states for
migration, AES-128.`,
		Args: arguments("STATE"),
		RunE: asking(func(ctx context.Context, args []string) error {
			ask, err := m.made()
			if err != nil {
				return err
			}
			if keyFile != "" && passwordFile != "" {
				return cli.Usage("either --key-file or --password-file")
			}
			if ask.State, ask.Family, err = readState(args[0]); err != nil {
				return err
			}
			defer clear(ask.State)
			if ask.Key, err = stateKey(keyFile, passwordFile); err != nil {
				return err
			}
			defer clear(ask.Key)
			v, err := c.client.Create(ctx, ask)
			if err != nil {
				return err
			}
			return c.report(v, fmt.Sprintf("%s\n%s is the same TPM a second time; remove it when the guest runs with the new one.", v.UUID, args[0]))
		}),
	}
	m.flags(cmd)
	cmd.Flags().StringVar(&keyFile, "key-file", "", "file with the state's key: 32 bytes, or 64 hexadecimal digits")
	cmd.Flags().StringVar(&passwordFile, "password-file", "", "file with the state's password, as swtpm was given it")
	return cmd
}

// stateFiles are the names of swtpm's permanent states, by family.
var stateFiles = map[string]string{"tpm2-00.permall": "2.0", "tpm-00.permall": "1.2"}

// readState reads a state that no swtpm uses, and tells its family.
func readState(path string) (state []byte, family string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, "", fmt.Errorf("read the TPM's state: %w", err)
	}
	if info.IsDir() {
		found := ""
		for name := range stateFiles {
			if _, err := os.Stat(filepath.Join(path, name)); err != nil {
				continue
			}
			if found != "" {
				return nil, "", fmt.Errorf("%s has states of both TPM families; name one of the files", path)
			}
			found = filepath.Join(path, name)
		}
		if found == "" {
			return nil, "", fmt.Errorf("%s has neither tpm2-00.permall nor tpm-00.permall", path)
		}
		path = found
	}
	family = stateFiles[filepath.Base(path)]
	if family == "" {
		return nil, "", fmt.Errorf("%s is neither called tpm2-00.permall nor tpm-00.permall, so its family is not known", path)
	}
	if used(filepath.Join(filepath.Dir(path), ".lock")) {
		return nil, "", fmt.Errorf("an swtpm uses %s; stop its guest first", path)
	}
	if state, err = os.ReadFile(path); err != nil {
		return nil, "", fmt.Errorf("read the TPM's state: %w", err)
	}
	if len(state) > store.MaxState {
		return nil, "", fmt.Errorf("%s has %d bytes, which is no TPM's state", path, len(state))
	}
	return state, family, nil
}

// used reports whether an swtpm has its lock (fcntl's, on a file that it makes).
func used(lock string) bool {
	f, err := os.OpenFile(lock, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	l := unix.Flock_t{Type: unix.F_WRLCK}
	return unix.FcntlFlock(f.Fd(), unix.F_GETLK, &l) == nil && l.Type != unix.F_UNLCK
}

// stateKey is the key of a state, nil where none is given.
func stateKey(keyFile, passwordFile string) ([]byte, error) {
	switch {
	case keyFile != "":
		b, err := os.ReadFile(keyFile)
		if err != nil {
			return nil, fmt.Errorf("read the state's key: %w", err)
		}
		if len(b) == emulator.KeySize {
			return b, nil
		}
		defer clear(b)
		key := make([]byte, emulator.KeySize)
		text := bytes.TrimPrefix(bytes.TrimSpace(b), []byte("0x"))
		if len(text) != 2*len(key) {
			return nil, errors.New("the state's key is neither 32 bytes nor 64 hexadecimal digits")
		}
		if _, err := hex.Decode(key, text); err != nil {
			return nil, errors.New("the state's key is neither 32 bytes nor 64 hexadecimal digits")
		}
		return key, nil
	case passwordFile != "":
		b, err := os.ReadFile(passwordFile)
		if err != nil {
			return nil, fmt.Errorf("read the state's password: %w", err)
		}
		defer clear(b)
		// As swtpm makes a key of a password file: of all of it, with a line feed at its end.
		return pbkdf2.Key(sha512.New, string(b), []byte("swtpm"), 1000, emulator.KeySize)
	}
	return nil, nil
}
