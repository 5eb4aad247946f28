package emulator

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm12"
	"github.com/antievilmaid/aem/tpm2"
)

// Inheritance is what a vTPM's PCRs hold before the guest's first command.
type Inheritance struct {
	// Launch is hashed by the sequence that a CPU sends at a dynamic launch: PCR 17 becomes
	// H(0 || H(Launch)) in each bank, and 18 to 22 become zero. nil is no launch: these
	// PCRs stay all ones, which tells a verifier that nothing was inherited.
	Launch []byte
	// Extends are made in this order, at locality 2.
	Extends []Extend
}

// Extend is a PCR with the digests to extend it by, one for each bank of the vTPM.
type Extend struct {
	PCR     tpm.PCR
	Digests []tpm.TaggedDigest
}

// launchLocality is that of what a launch started.
const launchLocality tpm.Locality = 2

// PowerOn switches the TPM on for a fresh guest. The state has changed afterwards: it must be
// safe before the guest's first command. Where it fails the emulator is ended.
func (e *Emulator) PowerOn(ctx context.Context, from Inheritance) error {
	if err := e.take(ctx); err != nil {
		return err
	}
	defer e.release()
	switch {
	case e.on:
		return errors.New("switch a vTPM on: it is on already; Reset gives it fresh PCRs")
	case e.asleep:
		return errors.New("switch a vTPM on: it was started to go on where it was suspended")
	}
	return e.powerOn(from)
}

// Reset switches the TPM off and on again, as a machine's reset does: fresh PCRs for a fresh guest. All that
// PowerOn says holds.
func (e *Emulator) Reset(ctx context.Context, from Inheritance) error {
	if err := e.take(ctx); err != nil {
		return err
	}
	defer e.release()
	if !e.on {
		return ErrOff
	}
	err := e.prepareOff()
	if err == nil {
		err = e.controlled(e.control.Stop)
	}
	if err != nil {
		return fmt.Errorf("reset a vTPM: %w", err)
	}
	return e.powerOn(from)
}

// Resume switches the TPM on with the PCRs, sessions and all else that Config.Volatile holds. No
// TPM2_Startup and no launch belong to that. Where it fails the emulator is ended.
func (e *Emulator) Resume(ctx context.Context) error {
	if err := e.take(ctx); err != nil {
		return err
	}
	defer e.release()
	if !e.asleep {
		return errors.New("resume a vTPM: it was not started with a volatile state, or goes on already")
	}
	e.asleep = false
	err := e.init(e.control.Resume)
	if err == nil && e.version == tpm.V20 {
		// swtpm passes over a volatile state that it can't read. Such a TPM waits for TPM2_Startup, and
		// who sends that gets the platform: the guest must not be the one.
		if err = e.expect("TPM2_GetRandom", packet(0x8001, 0x17b, 0, 1), 0); err != nil && !errors.Is(err, ErrEnded) {
			err = fmt.Errorf("%w (its volatile state: %w)", ErrState, err)
		}
	}
	if err != nil {
		return e.broken(fmt.Errorf("resume a vTPM: %w", err))
	}
	e.on = true
	return nil
}

// Suspend hands keep the permanent state and the volatile one that belongs to it and to no other, both encrypted with
// the vTPM's key. When keep has made them safe the TPM is off, and the process ended: two live copies of
// one TPM would be two guests with one identity. Where keep fails nothing happened, and the TPM goes on.
func (e *Emulator) Suspend(ctx context.Context, keep func(state, volatile []byte) error) error {
	if err := e.take(ctx); err != nil {
		return err
	}
	defer e.release()
	if !e.on {
		return ErrOff
	}
	if err := e.controlled(e.control.StoreVolatile); err != nil {
		return fmt.Errorf("suspend a vTPM: %w", err)
	}
	volatile, err := e.folder.takeVolatile()
	if err == nil {
		_, err = e.folder.refresh()
	}
	if err != nil {
		return e.broken(fmt.Errorf("suspend a vTPM: %w", err))
	}
	if err := keep(e.folder.state, volatile); err != nil {
		return err
	}
	e.on = false
	e.Kill()
	return nil
}

// Stop shuts the TPM down in order and ends the process, with all that was its. The state has changed afterwards.
func (e *Emulator) Stop(ctx context.Context) error {
	if err := e.take(ctx); err != nil {
		return err
	}
	err := e.stop()
	e.release()
	if err != nil {
		return fmt.Errorf("stop a vTPM: %w", err)
	}
	<-e.gone
	return nil
}

func (e *Emulator) stop() error {
	if e.on {
		if err := e.prepareOff(); err != nil {
			return err
		}
	}
	if err := e.controlled(e.control.Shutdown); err != nil {
		return err
	}
	<-e.done
	_, err := e.folder.refresh()
	return err
}

// prepareOff tells the TPM that its power goes. A TPM 1.2 has no need of it: what must last, its count of wrong
// tries too, is in its permanent state at each change, and TPM_SaveState is for sleep
// (TPM Main, Part 3, clause 3.3).
func (e *Emulator) prepareOff() error {
	e.on = false
	if e.version == tpm.V12 {
		return nil
	}
	rsp, _, err := e.execute(0, packet(0x8001, 0x145, 0, 0)) // TPM2_Shutdown(CLEAR)
	if err != nil {
		return err
	}
	const failureMode = 0x101 // a guest can bring its TPM there; nothing is left to be told then
	if rc := code(rsp); rc != 0 && rc != failureMode {
		return e.broken(fmt.Errorf("TPM2_Shutdown was answered with %#x", rc))
	}
	return nil
}

func (e *Emulator) powerOn(from Inheritance) error {
	err := e.init(e.control.Init)
	if err == nil {
		err = e.startup()
	}
	if err == nil && from.Launch != nil {
		err = e.controlled(func() error { return e.control.Launch(from.Launch) })
	}
	for _, x := range from.Extends {
		if err == nil {
			err = e.extend(x)
		}
	}
	if err != nil {
		return e.broken(fmt.Errorf("switch a vTPM on: %w", err))
	}
	e.on = true
	return nil
}

// init gives the TPM power and makes sure that it took the state that it was given. Where swtpm finds
// none it makes a new TPM, and writes that: so a state that was written by now is not the one that
// was expected.
func (e *Emulator) init(request func() error) error {
	if err := e.controlled(request); err != nil {
		var refused *swtpm.ResultError
		if errors.As(err, &refused) {
			return fmt.Errorf("%w (%w)", ErrState, err)
		}
		return err
	}
	e.at = 0
	given := e.folder.file != nil
	changed, err := e.folder.refresh()
	if err == nil && changed && given {
		err = fmt.Errorf("%w (swtpm wrote another one at power-on)", ErrState)
	}
	return err
}

// startup is what a firmware sends first, and the closing of what only a manufacturer or a firmware may do. That
// does not hang on what vtpm/filter understands of a command: with the hierarchy disabled, or
// presence locked, the TPM itself refuses.
func (e *Emulator) startup() error {
	if e.version == tpm.V20 {
		if err := e.expect("TPM2_Startup", packet(0x8001, 0x144, 0, 0), 0); err != nil {
			return err
		}
		// TPM2_HierarchyControl(TPM_RH_PLATFORM, empty password, TPM_RH_PLATFORM, NO): Part 3, clause 24.2. Only
		// a power-on enables it again. Without it nobody replaces the endorsement seed,
		// whatever the platform's authorisation is. The platform's NV indices, where
		// certificates are, stay readable: phEnableNV is another switch.
		return e.expect("TPM2_HierarchyControl", packet(0x8002, 0x121,
			0x40, 0, 0, 0x0c, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0, 0x40, 0, 0, 0x0c, 0), 0)
	}
	if err := e.expect("TPM_Startup", packet(0xc1, 0x99, 0, 1), 0); err != nil { // TPM_ST_CLEAR
		return err
	}
	// TSC_PhysicalPresence(lifetime lock, hardware disabled, commands disabled), for good: Part 3, clause 3.8... A
	// TPM that is locked already answers TPM_BAD_PARAMETER.
	const badParameter = 3
	return e.expect("TSC_PhysicalPresence", packet(0xc1, 0x4000000a, 0x03, 0x80), badParameter)
}

func (e *Emulator) extend(x Extend) error {
	ch := channel{e, launchLocality}
	if e.version == tpm.V20 {
		return tpm2.New(ch).Extend(x.PCR, x.Digests)
	}
	return tpm12.New(ch).Extend(x.PCR, x.Digests)
}

// channel sends our own commands, for who has the turn.
type channel struct {
	e  *Emulator
	at tpm.Locality
}

func (c channel) Send(command []byte) ([]byte, error) {
	rsp, _, err := c.e.execute(c.at, command)
	return rsp, err
}

// expect sends a command of ours that must succeed or be answered with the code also.
func (e *Emulator) expect(name string, command []byte, also uint32) error {
	rsp, _, err := e.execute(0, command)
	if err != nil {
		return err
	}
	if rc := code(rsp); rc != 0 && rc != also {
		return fmt.Errorf("%s was answered with %#x", name, rc)
	}
	return nil
}

func packet(tag uint16, command uint32, body ...byte) []byte {
	p := binary.BigEndian.AppendUint16(nil, tag)
	p = binary.BigEndian.AppendUint32(p, uint32(10+len(body)))
	return append(binary.BigEndian.AppendUint32(p, command), body...)
}

// code is a response's return code; ReadPacket made sure of the header.
func code(rsp []byte) uint32 { return binary.BigEndian.Uint32(rsp[6:]) }
