package tpm

import (
	"fmt"
	"hash"
	"io"
	"sync"
)

// Sizes of the buffers: large enough that handing one on costs nothing beside
// hashing it, and several, so that a fast algorithm may run ahead of a slow one and
// no core waits.
const (
	chunk   = 128 << 10
	buffers = 8
)

// buffer is a part of what is hashed, until all algorithms are done with it.
type buffer struct {
	memory []byte
	filled []byte
	users  sync.WaitGroup
}

// SumReader hashes what a reader gives in several algorithms, in one pass: all banks
// get the same bytes, also where the file changes meanwhile. Each algorithm has a
// goroutine of its own, so that with enough free cores it takes hardly longer than
// the slowest one alone. It needs a megabyte of memory, whatever the file's size.
func SumReader(algs []Alg, r io.Reader) ([]TaggedDigest, error) {
	hashes := make([]hash.Hash, len(algs))
	for i, a := range algs {
		if hashes[i] = a.New(); hashes[i] == nil {
			return nil, fmt.Errorf("%s can't be computed here", a)
		}
	}
	work := make([]chan *buffer, len(algs))
	var running sync.WaitGroup
	for i := range work {
		work[i] = make(chan *buffer, buffers)
		running.Go(func() {
			for b := range work[i] {
				hashes[i].Write(b.filled)
				b.users.Done()
			}
		})
	}
	err := feed(r, work)
	for _, w := range work {
		close(w)
	}
	running.Wait()
	if err != nil {
		return nil, err
	}
	list := make([]TaggedDigest, len(algs))
	for i, a := range algs {
		list[i] = TaggedDigest{a, hashes[i].Sum(nil)}
	}
	return list, nil
}

// feed reads to the end and hands each part to every algorithm.
func feed(r io.Reader, work []chan *buffer) error {
	var ring [buffers]buffer
	for n := 0; ; n++ {
		b := &ring[n%buffers]
		b.users.Wait()
		if b.memory == nil {
			b.memory = make([]byte, chunk)
		}
		size, err := io.ReadFull(r, b.memory)
		if size > 0 {
			b.filled = b.memory[:size]
			b.users.Add(len(work))
			for _, w := range work {
				w <- b
			}
		}
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return nil
		default:
			return err
		}
	}
}
