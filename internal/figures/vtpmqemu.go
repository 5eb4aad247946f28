package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/device"
)

// fewer is by how much fewer a guest does: a command takes it milliseconds.
const fewer = 10

// inGuests measures what a guest's program sees: in one QEMU whose TPM is swtpm alone, and in one whose TPM
// is vtpmd's, in turn.
func inGuests(dir string, d *daemon) error {
	alone, err := testbed.StartEmulator(filepath.Join(dir, "qemu"), tpm.V20)
	if err != nil {
		return err
	}
	defer alone.Stop()
	socket, err := d.make("in QEMU")
	if err != nil {
		return err
	}
	for _, kind := range []string{"tpm-tis", "tpm-crb"} {
		var guests []*testbed.Guest
		var names []string
		for _, path := range []string{alone.Socket(), socket} {
			g, list, err := bootGuest(path, kind)
			if err != nil {
				return err
			}
			defer g.Kill()
			guests, names = append(guests, g), list
		}
		fmt.Printf("\n| in a guest with %s, ms | QEMU and swtpm alone | QEMU and vtpmd | ratio |\n| --- | --- | --- | --- |\n", kind)
		times := make([][2][]float64, len(names))
		for range runs {
			for i, g := range guests {
				round, err := round(g)
				if err != nil {
					return err
				}
				for n := range names {
					times[n][i] = append(times[n][i], round[n]/1000)
				}
			}
		}
		for n, t := range times {
			fmt.Printf("| %s | %s | %s | %.2f |\n", names[n], hundredths(t[0]), hundredths(t[1]), median(t[1])/median(t[0]))
		}
		for _, g := range guests {
			g.Kill()
		}
	}
	return nil
}

// bootGuest starts a guest and returns what it will measure.
func bootGuest(socket, kind string) (*testbed.Guest, []string, error) {
	im := &testbed.Image{Steps: []testbed.Step{testbed.RunOnTTY("/bin/figures", "guest")}}
	if err := im.Program("bin/figures", "./internal/figures"); err != nil {
		return nil, nil, err
	}
	g, err := testbed.StartGuest(testbed.Config{Image: im, TPM: socket, TPMDevice: kind})
	if err != nil {
		return nil, nil, err
	}
	m, err := g.Expect(context.Background(), `FIGURES (.*?)\r?\n|GUEST exit.*\n`)
	if err == nil && m[1] == "" {
		err = fmt.Errorf("the guest measures nothing: %s", g.Transcript())
	}
	if err != nil {
		g.Kill()
		return nil, nil, err
	}
	return g, strings.Split(m[1], "; "), nil
}

// round has a guest measure once.
func round(g *testbed.Guest) (list []float64, err error) {
	if err := g.Type("\r"); err != nil {
		return nil, err
	}
	m, err := g.Expect(context.Background(), `ROUND ([0-9. ]*)\r?\n|GUEST exit.*\n`)
	if err != nil {
		return nil, err
	}
	for _, text := range strings.Fields(m[1]) {
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("the guest measured nothing: %s", g.Transcript())
	}
	return list, nil
}

// inGuest is the program in the guest: it measures once for each line that is typed.
func inGuest() error {
	chip, err := device.Open(device.Options{})
	if err != nil {
		return err
	}
	list, err := requestsOf(chip)
	if err != nil {
		return err
	}
	var names []string
	for _, q := range list {
		names = append(names, q.name)
	}
	fmt.Println("FIGURES", strings.Join(names, "; "))
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		text := "ROUND"
		for _, q := range list {
			took, err := q.timed(chip, max(q.times/fewer, 4))
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" %.1f", quartile(took))
		}
		fmt.Println(text)
	}
	return nil
}
