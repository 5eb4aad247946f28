package manager

import (
	"errors"
	"sync"
)

// users hands out the numbers of users, one for each running emulator, so that no
// emulator that a guest took over can touch another's process.
type users struct {
	mu    sync.Mutex
	first uint32
	taken []bool
}

func newUsers(first uint32, n int) *users { return &users{first: first, taken: make([]bool, n)} }

// take returns a number that nobody has until it is given back.
func (u *users) take() (uint32, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, taken := range u.taken {
		if !taken {
			u.taken[i] = true
			return u.first + uint32(i), nil
		}
	}
	return 0, errors.New("there are as many running vTPMs as there are users for them; give the manager more (--users)")
}

func (u *users) give(id uint32) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.taken[id-u.first] = false
}
