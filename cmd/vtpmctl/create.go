package main

import (
	"context"
	"fmt"
	"os/user"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm/admin"
)

// making are the flags of a vTPM that is made.
type making struct {
	admin.Making
	localities []uint
	qemu       string
}

func (m *making) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&m.Name, "name", "", "what you call it")
	f.StringVar(&m.UUID, "uuid", "", "its UUID (default: a random one)")
	f.BoolVar(&m.Policy.OnlyMeasured, "only-measured", false, "refuse a guest whose start was not measured")
	f.StringVar(&m.Policy.HostPCRs, "host-pcrs", "", `PCRs of the host to copy into it, such as "0-7,12"`)
	f.UintSliceVar(&m.localities, "locality", nil, "a locality, 1 to 3, that the guest may use beside 0")
	f.StringVar(&m.qemu, "qemu-user", "", "give it a socket to which this user's QEMU may connect, such as libvirt-qemu")
}

// made is what is asked for.
func (m *making) made() (admin.Making, error) {
	for _, l := range m.localities {
		m.Policy.Localities = append(m.Policy.Localities, tpm.Locality(min(l, 255)))
	}
	if m.qemu != "" {
		id, err := userID(m.qemu)
		if err != nil {
			return m.Making, err
		}
		m.Policy.QEMU = &id
	}
	return m.Making, nil
}

func userID(name string) (uint32, error) {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n), nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, fmt.Errorf("find the user who runs QEMU: %w", err)
	}
	n, err := strconv.ParseUint(u.Uid, 10, 32)
	return uint32(n), err
}

func createCommand(c *control) *cobra.Command {
	m := &making{}
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a vTPM, with an identity that nobody had before",
		Long: `create makes a vTPM. That is always your own act: a guest that asks for a vTPM which does not exist, or
whose state is gone, is refused, and never given a new one in silence.

With --only-measured, a guest gets it only where vtpmd measured what it starts with (vtpmctl run, or the boot
loader for plain xl create). With --qemu-user it has a socket that QEMU's -chardev, or libvirt's external
emulator, connects to; such a guest's firmware measures what it starts.`,
		Args: cli.NoArgs,
		RunE: asking(func(ctx context.Context, _ []string) error {
			ask, err := m.made()
			if err != nil {
				return err
			}
			v, err := c.client.Create(ctx, ask)
			if err != nil {
				return err
			}
			text := fmt.Sprintf("%s\nFor xl: vtpm=[\"backend=Domain-0,uuid=%s\"]", v.UUID, v.UUID)
			if v.Socket != "" {
				text = fmt.Sprintf("%s\nFor QEMU: -chardev socket,id=vtpm,path=%s -tpmdev emulator,id=tpm,chardev=vtpm -device tpm-tis,tpmdev=tpm", v.UUID, v.Socket)
			}
			return c.report(v, text)
		}),
	}
	m.flags(cmd)
	cmd.Flags().StringVar(&m.Family, "family", "2.0", "2.0, or 1.2 for guests whose kernel uses it through an unchanged xen-tpmfront")
	return cmd
}
