package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/durable"
	"github.com/antievilmaid/aem/internal/stage1"
)

func policyCommand(s *setup) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Sign what aem launch may start, on a machine that is kept offline",
		Long: `A policy names the launches that aem launch may start, by the digests of all that they
measure. It is signed with a key that stays on a machine that is kept offline; the
launched Linux has the public half of it, and measures that. These commands need no TPM.`,
	}
	cmd.AddCommand(policyKey(), policySign(s), policyShow(s))
	return cmd
}

func policyKey() *cobra.Command {
	return &cobra.Command{
		Use:   "key FILE",
		Short: "Make a key: the secret half in FILE, the public half in FILE.pub",
		Long: `key makes an Ed25519 key. FILE is the secret half, which only its owner can read and
which is not encrypted: keep it on a medium that is. FILE.pub belongs into the initramfs
of the Linux that is launched. No file is replaced.`,
		Args: arguments("the file of the key"),
		RunE: func(_ *cobra.Command, args []string) error {
			public, secret, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				return fmt.Errorf("make a key: %w", err)
			}
			defer clear(secret)
			file := launch.SecretKeyFile(secret)
			defer clear(file)
			if err := newFile(args[0], file, 0o600); err != nil {
				return fmt.Errorf("keep the secret key: %w", err)
			}
			if err := newFile(args[0]+".pub", launch.PublicKeyFile(public), 0o644); err != nil {
				return errors.Join(fmt.Errorf("keep the public key: %w", err), os.Remove(args[0]))
			}
			fmt.Printf("%s signs policies, and %s.pub is for the launched Linux:\n  %x\n", args[0], args[0], public)
			return nil
		},
	}
}

// newFile writes a file that does not exist, and sees it on the disk.
func newFile(path string, content []byte, perm fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return durable.Sync(filepath.Dir(path))
}

type signOptions struct {
	key, hash string
	approve   []string
	version   uint64
	days      uint
}

func policySign(s *setup) *cobra.Command {
	o := &signOptions{}
	cmd := &cobra.Command{
		Use:   "sign FILE",
		Short: "Sign a policy that names launches",
		Long: `sign makes the policy FILE. Each launch that it approves of is a launch description, as
aem launch reads it; its files are read below --root, and hashed as aem launch measures
them. A launch from a menu entry is approved by a description of the same files and lines;
an initramfs of dom0 that GRUB would unpack is described unpacked.
What a description has measured of the machine (cpu, smbios, devices) is read below --root
as well.

Where FILE is a policy of this key already, the new one has a higher version.`,
		Args: arguments("the file of the policy"),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := o.sign(args[0], s.root, time.Now())
			if err != nil {
				return err
			}
			return s.report(p, fmt.Sprintf("%s is version %d and holds until %s. It approves of:\n%s", args[0], p.Version, p.Expires.Format(time.DateOnly), labels(p)))
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.key, "key", "", "file of the secret key")
	f.StringArrayVar(&o.approve, "approve", nil, `a launch: "LABEL=DESCRIPTION", a file; can be given several times`)
	f.Uint64Var(&o.version, "version", 0, "the policy's version (default: one more than that of FILE, or 1)")
	f.UintVar(&o.days, "days", 365, "for how many days it holds")
	f.StringVar(&o.hash, "hash", "sha256", "the digests' algorithm: sha256, sha384 or sha512")
	return cmd
}

func (o *signOptions) sign(path, root string, now time.Time) (*launch.Policy, error) {
	if o.key == "" || len(o.approve) == 0 || o.days == 0 || o.days > 36500 {
		return nil, cli.Usage("give --key and --approve, and --days from 1 to 36500")
	}
	key, err := secretKey(o.key)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	now = now.UTC().Truncate(time.Second)
	p := &launch.Policy{Version: o.version, Issued: now, Expires: now.AddDate(0, 0, int(o.days)), Hash: o.hash}
	if err := follow(p, path, key.Public().(ed25519.PublicKey)); err != nil {
		return nil, err
	}
	for _, a := range o.approve {
		label, description, ok := strings.Cut(a, "=")
		if !ok {
			return nil, cli.Usage("%q is not LABEL=DESCRIPTION", a)
		}
		stage, err := stage1.ReadDescribed(description, root)
		if err != nil {
			return nil, fmt.Errorf("approve of %s: %w", label, err)
		}
		l, err := launch.Approve(label, stage, p.Alg())
		if err != nil {
			return nil, fmt.Errorf("approve of %s: %w", label, err)
		}
		p.Approved = append(p.Approved, l)
	}
	file, err := p.Sign(key)
	if err != nil {
		return nil, err
	}
	if err := durable.Write(path, file, nil); err != nil {
		return nil, fmt.Errorf("write the policy: %w", err)
	}
	return p, nil
}

// follow gives a policy its version, which is above that of the policy that it replaces.
func follow(p *launch.Policy, path string, key ed25519.PublicKey) error {
	b, err := stage1.ReadBounded(path, launch.MaxPolicy)
	if errors.Is(err, fs.ErrNotExist) {
		p.Version = max(p.Version, 1)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the policy that is to be replaced: %w", err)
	}
	last, err := launch.ReadPolicy(b, key)
	if err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	if p.Version == 0 {
		p.Version = last.Version + 1
	}
	if p.Version <= last.Version {
		return fmt.Errorf("replace %s: %w: it is version %d, and the new one would be %d", path, launch.ErrOldPolicy, last.Version, p.Version)
	}
	return nil
}

// secretKey reads a key, and takes none that others can read.
func secretKey(path string) (ed25519.PrivateKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read the secret key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others, or changed (mode %04o); the key may be known. A key of your own alone has mode 0600", path, info.Mode().Perm())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the secret key: %w", err)
	}
	defer clear(b)
	key, err := launch.ParseSecretKey(b)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return key, nil
}

// shownPolicy is what policy show --json prints.
type shownPolicy struct {
	Key      string         `json:"key"`
	Verified bool           `json:"verified"`        // with a key that was given
	Wrong    string         `json:"wrong,omitempty"` // why it would not be taken now
	Policy   *launch.Policy `json:"policy"`
}

func policyShow(s *setup) *cobra.Command {
	var keyFile string
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Show a policy, and say whether it holds",
		Long: `show prints a policy. With --key it must be signed with that key. Without, it may be
signed with anybody's, whose key is printed. A policy that does not hold now, by this machine's
clock: exit code 4.`,
		Args: arguments("the file of the policy"),
		RunE: func(_ *cobra.Command, args []string) error {
			b, err := stage1.ReadBounded(args[0], launch.MaxPolicy)
			if err != nil {
				return fmt.Errorf("read the policy: %w", err)
			}
			key, err := keyOrClaim(keyFile, b)
			if err != nil {
				return err
			}
			p, err := launch.ReadPolicy(b, key)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			x := shownPolicy{Key: fmt.Sprintf("%x", key), Verified: keyFile != "", Policy: p}
			if err := p.Holds(time.Now(), 0); err != nil {
				x.Wrong = err.Error()
			}
			if err := s.report(x, x.String()); err != nil || x.Wrong == "" {
				return err
			}
			return cli.Done{Exit: aem.ExitMeasurements}
		},
	}
	cmd.Flags().StringVar(&keyFile, "key", "", "file of the public key that must have signed it")
	return cmd
}

func keyOrClaim(keyFile string, policy []byte) (ed25519.PublicKey, error) {
	if keyFile == "" {
		return launch.PolicyKey(policy)
	}
	b, err := stage1.ReadBounded(keyFile, launch.MaxPolicy)
	if err != nil {
		return nil, fmt.Errorf("read the public key: %w", err)
	}
	return launch.ParsePublicKey(b)
}

func (x shownPolicy) String() string {
	p := x.Policy
	by := "is signed with"
	if !x.Verified {
		by = "IS NOT CHECKED: who signed it had the key"
	}
	text := fmt.Sprintf("Version %d, from %s to %s, %s %s\n", p.Version, p.Issued.Format(time.RFC3339), p.Expires.Format(time.RFC3339), by, x.Key)
	for _, l := range p.Approved {
		text += fmt.Sprintf("\n%s:\n", l.Label)
		for _, part := range l.Parts {
			text += fmt.Sprintf("  PCR %d %s %s %q\n", part.PCR, p.Hash, part.Digest, part.What)
		}
	}
	if x.Wrong != "" {
		text += "\nIt is not taken: " + x.Wrong
	}
	return strings.TrimSpace(text)
}

func labels(p *launch.Policy) string {
	var b strings.Builder
	for _, l := range p.Approved {
		fmt.Fprintf(&b, "  %s (%d parts)\n", l.Label, len(l.Parts))
	}
	return strings.TrimRight(b.String(), "\n")
}
