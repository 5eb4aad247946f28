package xen

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"

	"github.com/antievilmaid/aem/internal/grant"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm"
)

// The states of the page. The frontend writes submit and cancel, the backend idle and finish.
const (
	idle   = 0
	submit = 1
	finish = 2
	cancel = 3
)

// shared is the page that a guest shares with us (struct vtpm_shared_page of
// io/tpmif.h): the packet's length; state, locality, padding and the number of
// further pages, a byte each; the packet. That header's comment puts the packet
// elsewhere; all implementations put it here.
//
// The guest may write to it at any moment. Each word is read once and atomically,
// so that what was checked is what is used; and each is written atomically, which orders the
// state after the packet that it stands for.
type shared struct {
	words *[grant.PageSize / 4]uint32
}

const (
	headerWords = 2
	minCommand  = 10 // a TPM's command and response have a header of ten bytes
)

// state is the page's present state.
func (s shared) state() byte { return byte(atomic.LoadUint32(&s.words[1])) }

// command is the command in the page, if the guest has submitted one.
func (s shared) command() (at tpm.Locality, command []byte, submitted bool, err error) {
	word := atomic.LoadUint32(&s.words[1])
	if byte(word) != submit {
		return 0, nil, false, nil
	}
	if pages := word >> 24; pages != 0 {
		return 0, nil, true, fmt.Errorf("the guest's command names %d further pages; no frontend does", pages)
	}
	length := atomic.LoadUint32(&s.words[0])
	if length < minCommand || length > vtpm.BufferSize {
		return 0, nil, true, fmt.Errorf("the guest's command has %d bytes; between %d and %d are possible", length, minCommand, vtpm.BufferSize)
	}
	command = make([]byte, (length+3)/4*4)
	for i := range len(command) / 4 {
		binary.LittleEndian.PutUint32(command[4*i:], atomic.LoadUint32(&s.words[headerWords+i]))
	}
	return tpm.Locality(word >> 8), command[:length], true, nil
}

// answer puts a response of at most vtpm.BufferSize bytes into the page.
func (s shared) answer(response []byte) {
	for i := 0; i < len(response); i += 4 {
		var last [4]byte
		copy(last[:], response[i:])
		atomic.StoreUint32(&s.words[headerWords+i/4], binary.LittleEndian.Uint32(last[:]))
	}
	atomic.StoreUint32(&s.words[0], uint32(len(response)))
	s.set(finish)
}

// set sets the state, and leaves the bytes beside it, which are the guest's.
func (s shared) set(state byte) {
	atomic.StoreUint32(&s.words[1], atomic.LoadUint32(&s.words[1])&^0xff|uint32(state))
}
