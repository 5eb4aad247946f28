package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/emulator"
	"github.com/antievilmaid/aem/vtpm/manager"
	"github.com/antievilmaid/aem/vtpm/measure"
	"github.com/antievilmaid/aem/vtpm/store"
)

// withDaemon measures something with a vtpmd.
func withDaemon(dir string, measure func(string, *daemon) error) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	d, err := newDaemon(dir)
	if err != nil {
		return err
	}
	defer d.chip.Stop()
	return errors.Join(measure(dir, d), d.stop())
}

// vtpms measures what guests' TPMs cost beside swtpm alone.
func vtpms(dir string) error {
	if err := withDaemon(dir, beside); err != nil {
		return err
	}
	for _, n := range []int{100, 1000, 20000} {
		if err := commits(dir, n); err != nil {
			return err
		}
	}
	return nil
}

// beside is what needs a vtpmd.
func beside(dir string, d *daemon) error {
	fmt.Println("\nLower quartiles of single commands (a twentieth to the median):\n\n| a guest's command, µs | swtpm alone | the manager's session | ratio | a bare relay | ratio | vtpmd's socket | ratio | to the relay |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	if err := latency(dir, d); err != nil {
		return err
	}
	fmt.Println("\n| figure | value |\n| --- | --- |")
	return crowd(dir, d)
}

// latency sends the same commands to swtpm, to a session of the manager's in this process, to swtpm
// behind a relay, and to vtpmd's socket, in turn.
func latency(dir string, d *daemon) error {
	alone, err := startPlain(filepath.Join(dir, "alone"))
	if err != nil {
		return err
	}
	defer alone.stop()
	s, end, err := session(filepath.Join(dir, "session"))
	if err != nil {
		return err
	}
	defer end()
	path, err := d.make("latency")
	if err != nil {
		return err
	}
	served, err := atSocket(path)
	if err != nil {
		return err
	}
	defer served.Close()
	hop, err := start(filepath.Join(dir, "hop"), relayed)
	if err != nil {
		return err
	}
	defer hop.stop()
	ways := []tpm.Channel{alone, s, hop, served}
	asked := make([][]request, len(ways))
	for i, w := range ways {
		if asked[i], err = requestsOf(w); err != nil {
			return err
		}
	}
	for n, q := range asked[0] {
		times := make([][]float64, len(ways))
		for range runs {
			for i, w := range ways {
				took, err := asked[i][n].timed(w, q.times)
				if err != nil {
					return err
				}
				times[i] = append(times[i], took...)
			}
		}
		base := quartile(times[0])
		fmt.Printf("| %s | %s |", q.name, lower(times[0]))
		for _, t := range times[1:] {
			fmt.Printf(" %s | %.2f |", lower(t), quartile(t)/base)
		}
		fmt.Printf(" %.2f |\n", quartile(times[3])/quartile(times[2]))
	}
	return nil
}

// lower is a list's lower quartile, with the values below which a twentieth and a half of it lie.
func lower(list []float64) string {
	return fmt.Sprintf("%.1f (%.1f to %.1f)", quartile(list), part(list, 0.05), median(list))
}

// root is a store's, in memory: what the hardware TPM costs is no part of a command.
type root struct{ epoch uint64 }

func (r *root) Key() ([]byte, error)   { return bytes.Repeat([]byte{7}, store.KeySize), nil }
func (r *root) Epoch() (uint64, error) { return r.epoch, nil }
func (r *root) Advance(uint64) error   { r.epoch++; return nil }

// direct is a session as a channel, at locality 0.
type direct struct{ vtpm.Session }

func (d direct) Send(command []byte) ([]byte, error) {
	return d.Execute(context.Background(), 0, command)
}

// session starts a vTPM under a manager in this process.
func session(dir string) (_ direct, end func(), err error) {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return direct{}, nil, err
	}
	r := &root{}
	path := filepath.Join(dir, "vtpms")
	if err := store.Create(path, r); err != nil {
		return direct{}, nil, err
	}
	s, err := store.Open(path, r)
	if err != nil {
		return direct{}, nil, err
	}
	emulators, err := emulator.NewHost(dir)
	if err != nil {
		s.Close()
		return direct{}, nil, err
	}
	host := measure.Host{Grade: measure.StaticRoot}
	m := manager.New(manager.Config{Store: s, Emulators: emulators, Host: host, FirstUser: 2000010000, Users: 2})
	end = func() { m.Close(); emulators.Close(); s.Close() }
	u := vtpm.NewUUID()
	if err := m.Create(context.Background(), u, "latency", tpm.V20, manager.Policy{}); err != nil {
		end()
		return direct{}, nil, err
	}
	got, err := m.Attach(context.Background(), vtpm.Guest{UUID: u, Domain: "figures", Birth: "1", Firmware: true})
	if err != nil {
		end()
		return direct{}, nil, err
	}
	return direct{got}, end, nil
}
