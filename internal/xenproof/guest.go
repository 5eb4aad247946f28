package xenproof

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/antievilmaid/aem/internal/xenbed"
	"github.com/antievilmaid/aem/internal/xenbed/order"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/measure"
)

// guest is a guest of Xen's with a vTPM.
type guest struct {
	name   string
	uuid   vtpm.UUID
	family string
	alg    tpm.Alg // the bank to look at
	lines  string  // of its configuration
	blob   string  // what it sealed
}

// theSecret is what guests seal.
const theSecret = "the-lighthouse-keeper-sleeps-on-Tuesdays"

// guests are the machine's. Under emulation a PVH guest can't have its clock intercepted.
func guests() []*guest {
	const tsc = "\ntsc_mode=\"native\""
	list := []*guest{
		{name: "pv", uuid: vtpm.UUID{0x12, 15: 1}, family: "1.2", alg: tpm.SHA1, lines: `type="pv"`},
		{name: "pvh", uuid: vtpm.UUID{0x20, 15: 2}, family: "2.0", alg: tpm.SHA256, lines: `type="pvh"` + tsc},
		// Plain xl create starts this one. libxl wants a disk where there is a boot loader.
		{name: "plain", uuid: vtpm.UUID{0x20, 15: 3}, family: "2.0", alg: tpm.SHA256, lines: `type="pvh"` + tsc + `
bootloader="/usr/lib/vtpmd/vtpm-bootloader"
bootloader_args=["` + xenbed.GuestConfig("plain") + `"]
disk=["phy:/dev/vdb,xvda,r"]`},
		// This one gets its vTPM while it runs.
		{name: "late", uuid: vtpm.UUID{0x20, 15: 4}, family: "2.0", alg: tpm.SHA256, lines: `type="pv"`},
	}
	for _, g := range list {
		if g.name != "late" {
			g.lines += fmt.Sprintf("\nvtpm=[\"backend=Domain-0,uuid=%s\"]", g.uuid)
		}
	}
	return list
}

// guest finds one by its name.
func (m *Machine) guest(name string) *guest {
	i := slices.IndexFunc(m.guests, func(g *guest) bool { return g.name == name })
	return m.guests[i]
}

// ask asks a guest that runs, past all screens: what it seals is not for them.
func (d *Dom0) ask(ctx context.Context, g *guest, in string, words ...string) (string, error) {
	r, err := d.do(ctx, order.Order{Args: append([]string{xenbed.Helper, "ask", g.name}, words...), In: in, Quiet: true})
	if err == nil && r.Exit != 0 {
		err = fmt.Errorf("%s was asked %.40q: exit %d: %s", g.name, words, r.Exit, r.Out)
	}
	return strings.TrimSpace(r.Out), err
}

// algs are the banks of a TPM 2.0, and those that files are hashed for.
var algs = []tpm.Alg{tpm.SHA1, tpm.SHA256, tpm.SHA384, tpm.SHA512}

// launch is what a guest's vTPM has to be told, from the files that dom0 has, and from what the
// machine's own TPM holds.
func (d *Dom0) launch(ctx context.Context, g *guest, start measure.Start, late bool) (*measure.Launch, error) {
	// The line is what xenbed.AddGuest gives all guests.
	l := &measure.Launch{Guest: vtpm.Guest{UUID: g.uuid, Late: late}, Start: start, CommandLine: "console=hvc0 panic=-1 quiet"}
	if start == measure.Measured && !late {
		for path, file := range map[string]**measure.File{
			xenbed.GuestConfig(g.name): &l.Configuration, "/guests/vmlinux.gz": &l.Kernel, "/guests/" + g.name + ".img": &l.Initrd,
		} {
			f, err := d.digests(ctx, path)
			if err != nil {
				return nil, err
			}
			*file = f
		}
	}
	host, err := d.hostPCRs(ctx)
	if err != nil {
		return nil, err
	}
	l.Host = measure.Host{Grade: measure.Launched, PCRs: host}
	return l, nil
}

// digests hashes a file of dom0, with a program that knows nothing of vTPMs.
func (d *Dom0) digests(ctx context.Context, path string) (*measure.File, error) {
	r, err := d.do(ctx, order.Order{Args: []string{xenbed.Helper, "digests", path}, Quiet: true})
	if err != nil {
		return nil, err
	}
	f := &measure.File{Name: path}
	return f, json.Unmarshal([]byte(r.Out), &f.Digests)
}

// hostPCRs reads PCRs 17 and 18 of the machine's own TPM.
func (d *Dom0) hostPCRs(ctx context.Context) (tpm.Banks, error) {
	r, err := d.do(ctx, order.Order{Args: []string{xenbed.Helper, "hostpcrs"}, Quiet: true})
	if err != nil {
		return nil, err
	}
	var banks tpm.Banks
	if err := json.Unmarshal([]byte(r.Out), &banks); err != nil {
		return nil, fmt.Errorf("the host's PCRs: %w: %s", err, r.Out)
	}
	return banks, nil
}

// pcrs holds what a guest reads, in its PCRs and in its log, against what its vTPM had to be told.
func (d *Dom0) pcrs(ctx context.Context, g *guest, start measure.Start, late bool) error {
	said, err := d.ask(ctx, g, "", "pcrs")
	if err != nil {
		return err
	}
	read := map[tpm.PCR]string{}
	if err := json.Unmarshal([]byte(said), &read); err != nil {
		return fmt.Errorf("%s: %w", said, err)
	}
	l, err := d.launch(ctx, g, start, late)
	if err != nil {
		return err
	}
	want, err := l.Predict(algs)
	if err != nil {
		return err
	}
	for _, p := range []tpm.PCR{1, 4, 5, 17, 18} {
		if w := want.Value(g.alg, p).String(); read[p] != w {
			return fmt.Errorf("PCR %d of %s is %q, and has to be %s: %w", p, g.name, read[p], w, errNotAsItShould)
		}
	}
	return d.log(ctx, g, l)
}

// seals has a guest seal the secret to its PCRs.
func (d *Dom0) seals(ctx context.Context, g *guest) (err error) {
	g.blob, err = d.ask(ctx, g, theSecret, "seal")
	return err
}

// opens has a guest open it again.
func (d *Dom0) opens(ctx context.Context, g *guest) error {
	said, err := d.ask(ctx, g, "", "open", g.blob)
	if err == nil && said != theSecret {
		err = fmt.Errorf("%s opened %q: %w", g.name, said, errNotAsItShould)
	}
	return err
}

// cannotOpen has a guest try it, and its TPM refuse.
func (d *Dom0) cannotOpen(ctx context.Context, g *guest) error {
	return d.fails(ctx, 1, "the TPM refuses", xenbed.Helper, "ask", g.name, "open", g.blob)
}
