package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/emulator"
	"github.com/antievilmaid/aem/vtpm/manager"
	"github.com/antievilmaid/aem/vtpm/measure"
	"github.com/antievilmaid/aem/vtpm/store"
)

// vtpms measures what guests' TPMs cost beside swtpm alone.
func vtpms(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	d, err := newDaemon(dir)
	if err != nil {
		return err
	}
	defer d.chip.Stop()
	fmt.Println("\n| a guest's command, µs | swtpm alone | the manager's session | ratio | a bare relay | ratio | vtpmd's socket | ratio | to the relay |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	err = latency(dir, d)
	if err == nil {
		fmt.Println("\n| figure | value |\n| --- | --- |")
		err = crowd(dir, d)
	}
	if e := d.stop(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	for _, n := range []int{100, 1000, 20000} {
		if err := commits(dir, n); err != nil {
			return err
		}
	}
	return nil
}

// request is a command that is timed, so many times in a row.
type request struct {
	name  string
	bytes []byte
	times int
}

// ownerPassword is an authorisation area with an empty password (TPM Library, Part 1, clause 19.4).
const ownerPassword = "\x00\x00\x00\x09\x40\x00\x00\x09\x00\x00\x00\x00\x00"

func requests(counter uint32) []request {
	command := func(tag uint16, code uint32, body string) []byte {
		p := binary.BigEndian.AppendUint16(nil, tag)
		p = binary.BigEndian.AppendUint32(p, uint32(10+len(body)))
		return append(binary.BigEndian.AppendUint32(p, code), body...)
	}
	index := string(binary.BigEndian.AppendUint32(nil, counter))
	return []request{
		{"GetRandom, 32 bytes", command(0x8001, 0x17b, "\x00\x20"), 500},
		{"PCR_Read, 8 of SHA-256", command(0x8001, 0x17e, "\x00\x00\x00\x01\x00\x0b\x03\xff\x00\x00"), 500},
		{"PCR_Extend", command(0x8002, 0x182, "\x00\x00\x00\x10"+ownerPassword+"\x00\x00\x00\x01\x00\x0b"+string(make([]byte, 32))), 500},
		{"NV_Increment, which is stored", command(0x8002, 0x134, "\x40\x00\x00\x01"+index+ownerPassword), 20},
	}
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
	var index uint32
	for _, w := range ways {
		c, err := tpm2.New(w).MakeCounter(nil)
		if err != nil {
			return err
		}
		index = c.Index // each TPM's first
	}
	for _, q := range requests(index) {
		times := make([][]float64, len(ways))
		for range runs {
			for i, w := range ways {
				start := time.Now()
				for range q.times {
					if _, err := succeed(w, q.bytes); err != nil {
						return fmt.Errorf("%s: %w", q.name, err)
					}
				}
				times[i] = append(times[i], float64(time.Since(start).Nanoseconds())/1000/float64(q.times))
			}
		}
		base := median(times[0])
		fmt.Printf("| %s | %s |", q.name, spread(times[0]))
		for _, t := range times[1:] {
			fmt.Printf(" %s | %.2f |", spread(t), median(t)/base)
		}
		fmt.Printf(" %.2f |\n", median(times[3])/median(times[2]))
	}
	return nil
}

// succeed sends a command that must.
func succeed(c tpm.Channel, command []byte) ([]byte, error) {
	rsp, err := c.Send(command)
	if err == nil {
		if rc := binary.BigEndian.Uint32(rsp[6:]); rc != 0 {
			err = fmt.Errorf("the TPM answered %#x", rc)
		}
	}
	return rsp, err
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
