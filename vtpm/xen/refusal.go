package xen

import (
	"path"
	"slices"
	"sync"

	"github.com/antievilmaid/aem/internal/xenstore"
)

// keptRefusals is how many causes stay in xenstore: enough to be found by a person, and
// no residue of one who asks a hundred times.
const keptRefusals = 16

// longestRefusal is the longest cause, in bytes. A node takes 2048.
const longestRefusal = 1000

// refusals writes why there is no vTPM to where Linux's backends write theirs
// (xenbus_dev_error): the device's own directory goes away with the guest that was refused.
type refusals struct {
	mu   sync.Mutex
	kept []string
}

func (r *refusals) write(store *xenstore.Conn, device, cause string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	dir := "error/" + device
	r.kept = slices.DeleteFunc(r.kept, func(k string) bool { return k == dir })
	if len(r.kept) == keptRefusals {
		oldest := r.kept[0]
		r.kept = r.kept[1:]
		if err := store.Remove(oldest); err != nil {
			return err
		}
		if left, err := store.Directory(path.Dir(oldest)); err == nil && len(left) == 0 {
			store.Remove(path.Dir(oldest)) // of the domain's other vTPM there is none
		}
	}
	r.kept = append(r.kept, dir)
	if len(cause) > longestRefusal {
		cause = cause[:longestRefusal]
	}
	return store.Write(dir+"/error", cause)
}
