package xenstore

import "strconv"

// Watch is a standing request to be told of changes.
type Watch struct {
	conn        *Conn
	path, token string
}

// Watch calls fired with the path of each change at or below path, and once at the start.
// Changes come in storms and in duplicates: fired is called by the one goroutine that
// reads what xenstored sends, so it notes the change and returns, and asks xenstore nothing.
//
// The special path @releaseDomain fires when a domain has shut down or is gone.
func (c *Conn) Watch(path string, fired func(path string)) (*Watch, error) {
	c.watching.Lock()
	c.token++
	w := &Watch{c, path, strconv.FormatUint(c.token, 10)}
	c.watches[w.token] = fired // the first event may come before the answer
	c.watching.Unlock()
	if _, err := c.ask(0, OpWatch, "watch", path, w.token+"\x00"); err != nil {
		w.forget()
		return nil, err
	}
	return w, nil
}

// Close ends the watch. One more event may be on its way.
func (w *Watch) Close() error {
	w.forget()
	_, err := w.conn.ask(0, OpUnwatch, "stop to watch", w.path, w.token+"\x00")
	return err
}

func (w *Watch) forget() {
	w.conn.watching.Lock()
	defer w.conn.watching.Unlock()
	delete(w.conn.watches, w.token)
}

// fire tells a watch's owner. An event for a watch that has ended is nobody's.
func (c *Conn) fire(payload []byte) {
	s := Strings(payload)
	if len(s) < 2 {
		return
	}
	c.watching.Lock()
	fired := c.watches[s[1]]
	c.watching.Unlock()
	if fired != nil {
		fired(s[0])
	}
}
