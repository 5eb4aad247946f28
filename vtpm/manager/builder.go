package manager

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/fdstore"
	"github.com/antievilmaid/aem/vtpm"
)

// What is kept of a preparation. The start is kept last and given up first: where it is, there is who builds.
const (
	fileStart   = "start"   // a file in memory: what was measured
	fileBuilder = "builder" // our end of the builder's pipe
)

// start is what the file in memory says.
type start struct {
	Format   int // as that of facts
	UUID     vtpm.UUID
	Material Material
}

// While has a preparation last for as long as somebody has the other end of a pipe: who builds the vTPM's guests has
// it, and nobody else. Our end is the manager's from now on. The manager may die meanwhile; the next one goes on
// (Adopt), for the builder has all that he builds of.
//
// Whoever wants a guest of hers to count as the measured one waits for a preparation whose builder is gone, and has
// the guest built with that vTPM, by plain xl create. She may wait until there is no manager that would notice. So
// nobody's memory of the builder counts, and no number of a process, which by then is another one's: the pipe is asked
// whenever a guest comes, and the kernel answers. Nor would a pidfd do: xl goes on in a process that it forks.
func (p *Prepared) While(builder *os.File) {
	m := p.manager
	m.mu.Lock()
	p.builder = builder
	m.mu.Unlock()
	if err := p.keep(); err != nil {
		p.tell("unkept", "should the manager die, its guest counts as unmeasured when it restarts: "+err.Error())
	}
	go p.await()
}

// await ends a preparation with its builder.
func (p *Prepared) await() {
	for one := make([]byte, 1); ; {
		switch _, err := p.builder.Read(one); {
		case err == io.EOF:
			p.Cancel()
			p.tell("unprepared", "who built its measured guests is gone; another one has to be measured anew")
			return
		case err != nil:
			return // it was cancelled
		}
	}
}

// builds reports whether there is somebody who builds of what was measured, and of nothing else. The manager's mu
// is held.
func (p *Prepared) builds() bool {
	if p.builder == nil {
		return true
	}
	raw, err := p.builder.SyscallConn()
	if err != nil {
		return false
	}
	alive := false
	err = raw.Control(func(fd uintptr) {
		// Nothing is asked for but what poll always tells: that nobody has the other end.
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd)}}, 0)
			if err != unix.EINTR {
				alive = n == 0 && err == nil
				return
			}
		}
	})
	return alive && err == nil
}

// keep has a preparation outlive us.
func (p *Prepared) keep() error {
	held := p.manager.Held
	if held == nil {
		return nil
	}
	memory, err := newMemory(&start{factsFormat, p.uuid, p.material})
	if err != nil {
		return fmt.Errorf("write down what was measured: %w", err)
	}
	defer memory.Close()
	if err = held.Put(heldName(p.uuid, fileBuilder), p.builder); err == nil {
		err = held.Put(heldName(p.uuid, fileStart), memory)
	}
	if err != nil {
		p.letGo()
	}
	return err
}

// letGo ends the keeping.
func (p *Prepared) letGo() {
	if err := p.manager.Held.Remove(heldName(p.uuid, fileStart), heldName(p.uuid, fileBuilder)); err != nil {
		p.tell("held", "what belonged to a measured start could not be given up: "+err.Error())
	}
}

func (p *Prepared) tell(kind, text string) {
	p.manager.Tell(Happening{Kind: kind, UUID: p.uuid, Text: text})
}

// adoptPrepared goes on with a dead manager's preparation of a vTPM's starts, and takes it out of files. One whose
// builder is gone is over at once, before any guest can ask.
func (m *Manager) adoptPrepared(u vtpm.UUID, files map[string]*os.File) {
	memory, builder := files[fileStart], files[fileBuilder]
	delete(files, fileStart)
	delete(files, fileBuilder)
	if memory == nil && builder == nil {
		return
	}
	defer memory.Close()
	defer builder.Close()
	p := &Prepared{manager: m, uuid: u, used: make(chan struct{})}
	if err := p.takeOver(memory, builder); err != nil {
		p.letGo()
		p.tell("unprepared", "what its manager had measured can't be taken over, and its guest counts as unmeasured when it restarts: "+err.Error())
		return
	}
	m.mu.Lock()
	m.prepared[u] = p
	m.mu.Unlock()
	go p.await()
}

func (p *Prepared) takeOver(memory, builder *os.File) (err error) {
	if memory == nil || builder == nil {
		return errors.New("the manager died while it was being kept or given up")
	}
	var s start
	err = readMemory(memory, &s)
	switch {
	case err != nil:
		return err
	case s.Format != factsFormat:
		return errFormat(s.Format)
	case s.UUID != p.uuid:
		return errors.New("what was kept under its name is another vTPM's")
	}
	p.material = s.Material
	p.builder, err = fdstore.Pollable(builder)
	return err
}
