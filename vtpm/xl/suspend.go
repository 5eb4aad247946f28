package xl

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/antievilmaid/aem/internal/durable"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/manager"
)

// imagePath is the end of a pipe that xl has as a descriptor: so every byte of an image passes through our hands.
const imagePath = "/proc/self/fd/3"

// Suspend saves a guest, named as for [Starter.Stop], into a file that is not there yet, and puts its vTPM to sleep
// for [Starter.Resume].
//
// xl saves the guest and holds it. Only when its image is on the disk and the store has the PCRs that belong to it,
// is the guest destroyed. Until then it can go on, and does where something fails.
func (s *Starter) Suspend(guest, path string, tell func(string)) error {
	u, number, err := s.domain(guest)
	if err != nil {
		return err
	}
	name, err := s.ask("domname", number)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // a guest's memory holds its secrets
	if err != nil {
		return fmt.Errorf("make the image of the guest %s: %w", name, err)
	}
	defer f.Close()
	if err := s.suspend(u, number, name, f, tell); err != nil {
		os.Remove(path) // of no use to anybody
		return fmt.Errorf("the guest %s is not suspended, and goes on: %w", name, err)
	}
	if err := s.xl(nil, "destroy", number); err != nil {
		return fmt.Errorf("%s is suspended, and must not go on as it is: %w", name, err)
	}
	return nil
}

// suspend does all after which the guest may be destroyed.
func (s *Starter) suspend(u vtpm.UUID, number, name string, f *os.File, tell func(string)) error {
	tell("xl saves " + name)
	image := manager.Image{Name: name}
	var err error
	if image.SHA256, err = s.save(number, f, tell); err != nil {
		return err // and xl has let it go on
	}
	if err = errors.Join(f.Sync(), durable.Sync(filepath.Dir(f.Name()))); err == nil {
		err = s.Manager.Suspend(context.Background(), u, "xen:"+number, image)
	}
	if err != nil {
		return also(err, s.xl(nil, "unpause", number))
	}
	return nil
}

// also is an error with what then went wrong, too.
func also(err, then error) error {
	if then == nil {
		return err
	}
	return fmt.Errorf("%w; then: %w", err, then)
}

// save has xl write a guest's image. The guest stays, held.
func (s *Starter) save(number string, f io.Writer, tell func(string)) (digest [sha256.Size]byte, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return digest, fmt.Errorf("make a pipe for xl: %w", err)
	}
	sum, copied := newSum("saved", tell), make(chan error, 1)
	go func() {
		_, err := io.Copy(io.MultiWriter(f, sum), r)
		r.Close() // where the disk is full xl must not wait: it fails, and lets the guest go on
		copied <- err
	}()
	err = s.xl([]*os.File{w}, "save", "-p", number, imagePath)
	w.Close()
	if wrote := <-copied; wrote != nil {
		err = wrote // which is why xl failed
	}
	return sum.digest(), err
}

// Resume has a vTPM's guest go on of its image. A file that is not that image is refused before anything is built of
// it; one that is changed while xl reads it is noticed before the guest runs, and that guest destroyed.
func (s *Starter) Resume(u vtpm.UUID, path string, tell func(string)) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open the guest's image: %w", err)
	}
	defer f.Close()
	p, err := s.Manager.Resume(u)
	if err != nil {
		return err
	}
	defer p.Cancel()
	sum := newSum("checked", tell)
	if _, err := io.Copy(sum, f); err != nil {
		return fmt.Errorf("read the guest's image: %w", err)
	}
	if sum.digest() != p.Image.SHA256 {
		return fmt.Errorf("%s: %w; the guest %s stays suspended", path, manager.ErrOtherImage, p.Image.Name)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read the guest's image: %w", err)
	}
	tell("xl builds " + p.Image.Name)
	number, err := s.resume(p, f, tell)
	if err != nil {
		p.Cancel() // first: the guest's device waits for it
		if number != "" {
			err = also(err, s.xl(nil, "destroy", number))
		}
		return fmt.Errorf("the guest %s stays suspended: %w", p.Image.Name, err)
	}
	if err := s.xl(nil, "unpause", number); err != nil {
		return fmt.Errorf("%s is resumed, and is still held: %w", p.Image.Name, err)
	}
	return nil
}

// resume builds the guest and has its vTPM go on. Where it fails, number is a guest that was built and must not run.
func (s *Starter) resume(p *manager.Resumption, f io.Reader, tell func(string)) (number string, err error) {
	digest, err := s.restore(f, tell)
	if g, asked := p.Guest(); asked {
		number = strings.TrimPrefix(g.Domain, "xen:")
	}
	if err != nil {
		return number, err
	}
	// The guest that the toolstack knows by this name is the one that it has just built, of the image that this name
	// stands in; another one, which only asked for the vTPM in the right moment, has another name.
	built, err := s.ask("domid", p.Image.Name)
	if err != nil {
		return number, err
	}
	return built, p.Finish(context.Background(), "xen:"+built, digest)
}

// restore has xl build a guest, and hold it. The digest is that of what xl was given.
func (s *Starter) restore(f io.Reader, tell func(string)) (digest [sha256.Size]byte, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return digest, fmt.Errorf("make a pipe for xl: %w", err)
	}
	sum, copied := newSum("restored", tell), make(chan error, 1)
	go func() {
		_, err := io.Copy(io.MultiWriter(w, sum), f)
		w.Close()
		copied <- err
	}()
	err = s.xl([]*os.File{r}, "restore", "-p", imagePath)
	r.Close()
	w.Close() // what xl left behind has the other end still, and reads no more
	if wrote := <-copied; err == nil {
		err = wrote
	}
	return sum.digest(), err
}

// domain finds the guest that is named by its name, its number or its vTPM's UUID: its number, and its one vTPM.
func (s *Starter) domain(guest string) (u vtpm.UUID, number string, err error) {
	running := s.Manager.Running()
	if u, err := vtpm.ParseUUID(guest); err == nil {
		number, isXen := strings.CutPrefix(running[u].Guest.Domain, "xen:")
		if !isXen {
			return u, "", fmt.Errorf("no guest of Xen's uses the vTPM %s", u)
		}
		return u, number, nil
	}
	if guest == "" || strings.HasPrefix(guest, "-") {
		return u, "", fmt.Errorf("%q is not the name of a guest", guest)
	}
	number = guest
	if _, err := strconv.ParseUint(guest, 10, 15); err != nil {
		if number, err = s.ask("domid", guest); err != nil {
			return u, "", err
		}
	}
	found := 0
	for v, r := range running {
		if r.Guest.Domain == "xen:"+number {
			u = v
			found++
		}
	}
	if found != 1 {
		return u, "", fmt.Errorf("the guest %s has %d vTPMs of vtpmd's, and one that is suspended has one; save it with xl save", guest, found)
	}
	return u, number, nil
}

// ask is what xl says in one line.
func (s *Starter) ask(args ...string) (string, error) {
	said, err := s.output(nil, args...)
	return strings.TrimSpace(said), err
}

// summing hashes what passes, and says now and then how much that was.
type summing struct {
	hash.Hash
	what string
	n    int64
	last time.Time
	tell func(string)
}

func newSum(what string, tell func(string)) *summing {
	return &summing{Hash: sha256.New(), what: what, last: time.Now(), tell: tell}
}

func (s *summing) Write(b []byte) (int, error) {
	s.n += int64(len(b))
	if now := time.Now(); now.Sub(s.last) >= 2*time.Second {
		s.last = now
		s.tell(fmt.Sprintf("%s %d MB", s.what, s.n>>20))
	}
	return s.Hash.Write(b)
}

func (s *summing) digest() (d [sha256.Size]byte) {
	s.Sum(d[:0])
	return d
}
