package main

import (
	"crypto/ed25519"
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/stage1"
)

// policyOptions are the flags by which a policy has to approve of what is launched.
type policyOptions struct {
	file, key string
	oldest    uint64
	anyway    bool
	set       *pflag.FlagSet
}

func (o *policyOptions) flags(f *pflag.FlagSet) {
	o.set = f
	f.StringVar(&o.key, "policy-key", "", "file with the public key whose policy has to approve of what is launched")
	f.StringVar(&o.file, "policy", "", "the policy")
	f.Uint64Var(&o.oldest, "policy-oldest", 1, "the lowest version of a policy that is taken")
	f.BoolVar(&o.anyway, "launch-unapproved", false, "launch also what no policy approves of, and measure that")
}

// given reports whether a policy is asked for. A flag whose value is empty, such as a
// script's unset variable, asks as well: check then refuses it.
func (o *policyOptions) given() bool {
	given := o.file != "" || o.key != ""
	for _, name := range []string{"policy", "policy-key", "policy-oldest", "launch-unapproved"} {
		given = given || o.set != nil && o.set.Changed(name)
	}
	return given
}

func (o *policyOptions) check() error {
	if o.given() && (o.file == "" || o.key == "") {
		return cli.Usage("a policy has a file and a key: give --policy and --policy-key")
	}
	return nil
}

// demand is what the flags demand; nil where they are not given.
func (o *policyOptions) demand() *launch.Demand {
	if !o.given() {
		return nil
	}
	d := &launch.Demand{
		Key: func() (ed25519.PublicKey, error) {
			b, err := stage1.ReadBounded(o.key, launch.MaxPolicy)
			if err != nil {
				return nil, fmt.Errorf("read the key of the launch policy: %w", err)
			}
			return launch.ParsePublicKey(b)
		},
		Policy: func() ([]byte, error) { return stage1.ReadBounded(o.file, launch.MaxPolicy) },
		Oldest: o.oldest,
		Now:    time.Now,
	}
	if o.anyway {
		d.Anyway = func(why error) { fmt.Fprintf(os.Stderr, "aem: it is launched all the same: %v\n", why) }
	}
	return d
}
