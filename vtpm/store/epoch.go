package store

import "fmt"

// begin begins the first epoch of an opened store.
func (s *Store) begin() error {
	now, err := s.rooted.Epoch()
	if err != nil {
		return err
	}
	if s.root.epoch == now+1 {
		// The power failed between the file's step and the counter's, and there may be copies of
		// that epoch. First its end is made up for.
		if err := s.NextEpoch(); err != nil {
			return err
		}
	}
	return s.NextEpoch()
}

// NextEpoch begins an epoch: one write to the TPM's NV memory, after which every copy of
// the file that was made before is refused. Other calls go on meanwhile. Where
// it returned an error, the next call makes up for the step that failed, and copies that
// were made in between are refused after one more.
func (s *Store) NextEpoch() error {
	s.epochs.Lock()
	defer s.epochs.Unlock()
	now, err := s.rooted.Epoch()
	if err != nil {
		return err
	}
	s.mu.RLock()
	epoch, err := s.root.epoch, s.err
	s.mu.RUnlock()
	if err != nil {
		return err
	}
	switch {
	case epoch < now:
		return fmt.Errorf("the vTPM store: %w: it is of epoch %d, and the TPM's counter stands at %d", ErrRolledBack, epoch, now)
	case epoch > now+1:
		return fmt.Errorf("%w: it is of epoch %d, and the counter stands at %d", ErrAhead, epoch, now)
	case epoch == now:
		// The file first. Were the counter first and the power failed then, a file one epoch
		// behind would have to be accepted, and any file one epoch old would be such a file.
		err := s.commit(func(_ *tree, r *rootRecord) error {
			r.epoch, s.wrote = now+1, r.sequence
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := s.rooted.Advance(now); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began = s.wrote // commits made while the counter moved are of this epoch
	return nil
}

// Changed reports whether there was a commit since the epoch began.
func (s *Store) Changed() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.root.sequence != s.began
}
