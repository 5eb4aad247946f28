// Vtpmguest runs in a test guest. "pcr" reads PCR 16 of the guest's TPM, extends it, and
// reads it again. "proxy" serves that TPM to the guest's own kernel as a second one, and
// asks both. Each writes one line: VTPMGUEST and what it saw.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/device"
	"github.com/antievilmaid/aem/tpm12"
	"github.com/antievilmaid/aem/tpm2"
	"github.com/antievilmaid/aem/vtpm/vtpmx"
)

func main() {
	do := map[string]func() error{"pcr": pcr, "proxy": proxy}[strings.Join(os.Args[1:], " ")]
	if do == nil {
		fmt.Println("VTPMGUEST wants pcr or proxy")
		os.Exit(2)
	}
	if err := do(); err != nil {
		fmt.Println("VTPMGUEST", err)
		os.Exit(1)
	}
}

// debugPCR is PCR 16, which neither firmware nor kernel extends.
const debugPCR tpm.PCR = 16

func pcr() error {
	d, err := device.Open(device.Options{})
	if err != nil {
		return err
	}
	defer d.Close()
	before, after, err := extend(d)
	if err != nil {
		return err
	}
	fmt.Println("VTPMGUEST", d.Version, before, after)
	return nil
}

// extend extends PCR 16, and returns what it was and is in the first bank.
func extend(d *device.Device) (before, after tpm.Digest, err error) {
	var chip interface {
		ReadPCRs(tpm.PCRs) (tpm.Banks, error)
		Extend(tpm.PCR, []tpm.TaggedDigest) error
	} = tpm2.New(d)
	if d.Version == tpm.V12 {
		chip = tpm12.New(d)
	}
	old, err := chip.ReadPCRs(tpm.PCRSet(debugPCR))
	if err != nil {
		return nil, nil, err
	}
	var digests []tpm.TaggedDigest
	for _, b := range old {
		digests = append(digests, tpm.TaggedDigest{Alg: b.Alg, Digest: bytes.Repeat([]byte{0x5a}, b.Alg.Size())})
	}
	if err := chip.Extend(debugPCR, digests); err != nil {
		return nil, nil, err
	}
	now, err := chip.ReadPCRs(tpm.PCRSet(debugPCR))
	if err != nil {
		return nil, nil, err
	}
	return old[0].Values[debugPCR], now[0].Values[debugPCR], nil
}

// session is the guest's first TPM as a vTPM.
type session struct {
	*device.Device
	mu         sync.Mutex
	localities map[tpm.Locality]bool
	commands   map[uint32]bool
	dying      chan struct{} // closed when a command has come that gets no answer; nil where all get one
}

func (s *session) Version() tpm.Version        { return s.Device.Version }
func (s *session) Cancel() error               { return errors.New("the device can't cancel") }
func (s *session) Reset(context.Context) error { return errors.New("the device can't be reset") }
func (s *session) Log() ([]byte, error)        { return nil, errors.New("nothing was measured here") }
func (s *session) End() error                  { return s.Close() }

func (s *session) Execute(ctx context.Context, at tpm.Locality, command []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dying != nil {
		close(s.dying)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s.localities[at] = true
	s.commands[binary.BigEndian.Uint32(command[6:])] = true
	return s.Send(command)
}

// serve answers the kernel until stop is called.
func serve(d *vtpmx.Device, s *session) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- d.Serve(ctx, s) }()
	return func() error {
		cancel()
		return <-served
	}
}

// dieWithCommand ends who serves a device while a program waits for an answer, which it then has from the
// next one.
func dieWithCommand(first *vtpmx.Device, s *session, program *device.Device, stop func() error) (*vtpmx.Device, func() error, error) {
	s.dying = make(chan struct{})
	answered := make(chan error, 1)
	go func() {
		_, err := tpm2.New(program).ReadPCRs(tpm.PCRSet(debugPCR))
		answered <- err
	}()
	<-s.dying
	kept, err := first.File()
	if err = errors.Join(err, stop(), first.Close()); err != nil {
		return nil, nil, err
	}
	s.dying = nil
	next, err := vtpmx.Resume(first.Number, kept)
	if err != nil {
		return nil, nil, err
	}
	stop = serve(next, s)
	if err := <-answered; err != nil {
		return nil, nil, fmt.Errorf("the program whose command was under way: %w", err)
	}
	return next, stop, nil
}

func proxy() error {
	first, err := device.Open(device.Options{Spec: "/dev/tpm0"})
	if err != nil {
		return err
	}
	s := &session{Device: first, localities: map[tpm.Locality]bool{}, commands: map[uint32]bool{}}
	proxied, err := vtpmx.New(first.Version)
	if err != nil {
		return err
	}
	stop := serve(proxied, s)
	second, err := device.Open(device.Options{Spec: await(fmt.Sprintf("/dev/tpm%d", proxied.Number))})
	if err != nil {
		return err
	}
	before, after, err := extend(second)
	if err != nil {
		return err
	}
	if second.Version == tpm.V20 { // with TPM 1.2 the kernel waits for every command a few seconds only
		if proxied, stop, err = dieWithCommand(proxied, s, second, stop); err != nil {
			return err
		}
	}
	second.Close()
	if err := stop(); err != nil {
		return err
	}
	// With its server gone, so is the device; the first TPM has what was done at the second.
	if err := proxied.Close(); err != nil {
		return err
	}
	left, err := filepath.Glob(fmt.Sprintf("/sys/class/tpm/tpm%d", proxied.Number))
	if err != nil {
		return err
	}
	seen, _, err := extend(first)
	if err != nil {
		return err
	}
	var at []tpm.Locality
	for l := range s.localities {
		at = append(at, l)
	}
	slices.Sort(at)
	fmt.Println("VTPMGUEST", second.Version, before, after, seen, "localities", at, "driver's own", s.commands[0x20001000], "left", left)
	return s.End()
}

// await waits for a node that the kernel makes when the device has answered it.
func await(node string) string {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(node); err == nil {
			break
		}
	}
	return node
}
