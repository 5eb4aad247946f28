package manager

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/measure"
)

// sheet is what the next manager has to know of a running vTPM, in a file in memory that is kept with
// the emulator's descriptors: of its guest, which does not change, and of the command that is under way.
// A write into it is done when it returns, whatever happens to us then.
//
// It holds no key. Whoever can change it is root, in our memory or in systemd's, and could as well change
// what we think of a guest. What it can't do is bring an old state back: that is held against the store.
//
// A nil sheet is that of a vTPM that nobody keeps.
type sheet struct{ memory *os.File }

// What stands where in it. The first page is written in one piece.
const (
	atStage    = 0
	atCommand  = 8  // the digest of the command that is under way
	atStored   = 40 // the digest of the state that was stored last
	atAnswer   = 4096
	atFacts    = atAnswer + 4096
	limitFacts = 1 << 20
)

// The stages of a command.
const (
	stageNone     uint64 = iota
	stageSent            // to the emulator, perhaps
	stageAnswered        // by it; the answer stands in the sheet. The low half of the number is the stage, the high half its length
)

// facts are what does not change.
type facts struct {
	Format  int
	Version tpm.Version
	User    uint32
	Launch  measure.Launch // its Guest is the vTPM's
}

const factsFormat = 1

func newSheet(f facts) (*sheet, error) {
	f.Format = factsFormat
	memory, err := newMemory(&f)
	if err != nil {
		return nil, fmt.Errorf("write down what belongs to a vTPM: %w", err)
	}
	return &sheet{memory}, nil
}

// facts reads what was written down when the vTPM started.
func (s *sheet) facts() (facts, error) {
	var f facts
	err := readMemory(s.memory, &f)
	if err == nil && f.Format != factsFormat {
		err = errFormat(f.Format)
	}
	if err != nil {
		return f, fmt.Errorf("read what belongs to a vTPM: %w", err)
	}
	return f, nil
}

func errFormat(n int) error {
	return fmt.Errorf("its format is %d, and this manager knows %d", n, factsFormat)
}

// newMemory makes a file in memory that says what facts points to.
func newMemory(facts any) (*os.File, error) {
	b, err := json.Marshal(facts)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("vtpm", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	memory := os.NewFile(uintptr(fd), "vtpm")
	_, err = memory.WriteAt(b, atFacts)
	if err == nil {
		// JSON has no place for a command line that is not UTF-8: the next log would have another one.
		again := reflect.New(reflect.TypeOf(facts).Elem()).Interface()
		if err = readMemory(memory, again); err == nil && !reflect.DeepEqual(again, facts) {
			err = errors.New("the names or the command line that it was started with are not all UTF-8")
		}
	}
	if err != nil {
		memory.Close()
		return nil, err
	}
	return memory, nil
}

// readMemory reads it again.
func readMemory(memory *os.File, facts any) error {
	b, err := io.ReadAll(io.NewSectionReader(memory, atFacts, limitFacts))
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields() // a later version's, which may matter
	return d.Decode(facts)
}

// sent notes a command before it goes to the emulator.
func (s *sheet) sent(at tpm.Locality, command []byte) {
	if s == nil {
		return
	}
	d := digestOf(at, command)
	s.memory.WriteAt(append(binary.LittleEndian.AppendUint64(nil, stageSent), d[:]...), atStage)
}

// answered notes the answer, before anything that takes time is done with it.
func (s *sheet) answered(rsp []byte) {
	if s == nil || len(rsp) > vtpm.BufferSize {
		return
	}
	s.memory.WriteAt(rsp, atAnswer)
	s.memory.WriteAt(binary.LittleEndian.AppendUint64(nil, stageAnswered|uint64(len(rsp))<<32), atStage)
}

// delivered says that the frontend has the answer, and wipes it.
func (s *sheet) delivered(n int) {
	if s == nil {
		return
	}
	s.memory.WriteAt(make([]byte, 8), atStage)
	s.memory.WriteAt(make([]byte, min(n, vtpm.BufferSize)), atAnswer)
}

// stored notes which state the store has.
func (s *sheet) stored(state []byte) {
	if s == nil {
		return
	}
	d := sha256.Sum256(state)
	s.memory.WriteAt(d[:], atStored)
}

// unanswered is a command whose answer the guest did not get.
type unanswered struct {
	command [sha256.Size]byte
	answer  []byte
}

// read returns the digest of the state that was stored last, and the command that was under way; left is what of
// its answer stood on the emulator's channel.
func (s *sheet) read(left []byte) (stored [sha256.Size]byte, u *unanswered, err error) {
	page := make([]byte, atAnswer+vtpm.BufferSize)
	if _, err := s.memory.ReadAt(page, 0); err != nil {
		return stored, nil, fmt.Errorf("read what belongs to a vTPM: %w", err)
	}
	copy(stored[:], page[atStored:])
	stage := binary.LittleEndian.Uint64(page[atStage:])
	u = &unanswered{}
	copy(u.command[:], page[atCommand:])
	n := int(stage >> 32)
	switch {
	case stage == stageNone:
		return stored, nil, nil
	case stage == stageSent && len(left) >= 10 && uint64(binary.BigEndian.Uint32(left[2:])) == uint64(len(left)):
		u.answer = left
	case stage == stageSent:
		return stored, nil, nil // it was not sent, or nobody knows what became of it
	case stage&0xffffffff == stageAnswered && n >= 10 && n <= vtpm.BufferSize:
		u.answer = page[atAnswer : atAnswer+n]
	default:
		return stored, nil, errors.New("what was written down of a vTPM's last command makes no sense")
	}
	return stored, u, nil
}

func (s *sheet) close() {
	if s != nil {
		s.memory.Close()
	}
}

func digestOf(at tpm.Locality, command []byte) [sha256.Size]byte {
	return sha256.Sum256(append([]byte{byte(at)}, command...))
}
