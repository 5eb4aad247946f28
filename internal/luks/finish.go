package luks

// finish reads the key material and writes down what counts.
func (h *Header) finish(metadata object, dev device) (*Header, error) {
	if !isUUID(h.UUID) {
		return nil, malformed("its UUID is %s", clip(h.UUID))
	}
	for i := range h.KeySlots {
		s := &h.KeySlots[i]
		var err error
		if s.Material, err = dev.sum(s.Area.Offset, stripesLen(s.KeySize)); err != nil {
			return nil, err
		}
	}
	off := h.Segments[0].Offset
	h.Detached = off == 0 || !dev.has(off+1)
	h.facts = h.collect(metadata)
	return h, nil
}

// isUUID accepts what uuid_parse does.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range []byte(s) {
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'):
			return false
		}
	}
	return true
}
