// Package storetest is a xenstored in memory, for tests of what speaks to one. It speaks
// the same wire protocol, has watches and transactions, and knows which domains live.
package storetest

import (
	"fmt"
	"maps"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/antievilmaid/aem/internal/xenstore"
)

// Store is the tree. Set its fields before the first connection.
type Store struct {
	// Duplicates is how many more times each watch event is sent than once.
	Duplicates int
	// NumbersWatches says that answers to watches carry the request's number, which the kernel's don't.
	NumbersWatches bool

	mu         sync.Mutex
	nodes      map[string]string
	perms      map[string]string
	denied     map[string]bool
	generation uint64
	alive      map[string]bool
	clients    map[*client]bool
}

// New returns an empty store.
func New() *Store {
	return &Store{
		nodes: map[string]string{}, perms: map[string]string{}, denied: map[string]bool{},
		alive: map[string]bool{}, clients: map[*client]bool{},
	}
}

// Connect returns a connection of the control domain's, which may do everything.
func (s *Store) Connect() *xenstore.Conn { return s.ConnectAs(0) }

// ConnectAs returns a domain's connection.
func (s *Store) ConnectAs(domain uint32) *xenstore.Conn {
	near, far := net.Pipe()
	s.serve(far, domain)
	return xenstore.New(near)
}

// Listen serves a domain at a socket until the listener is closed.
func (s *Store) Listen(l net.Listener, domain uint32) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		s.serve(conn, domain)
	}
}

// Introduce makes a domain a living one, or ends it, which @releaseDomain tells.
func (s *Store) Introduce(domain uint32, lives bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alive[strconv.FormatUint(uint64(domain), 10)] = lives
	if !lives {
		s.fire("@releaseDomain")
	}
}

// Disconnect ends all connections, as xenstored's end does.
func (s *Store) Disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.clients {
		c.conn.Close()
	}
}

// Deny makes a node and all below it unreadable.
func (s *Store) Deny(p string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied[p] = true
}

// Snapshot is a copy of the tree with absolute paths, without the nodes that hold nothing.
func (s *Store) Snapshot() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := maps.Clone(s.nodes)
	maps.DeleteFunc(m, func(_, v string) bool { return v == "" })
	return m
}

// Watches is how many watches the connections have together.
func (s *Store) Watches() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for c := range s.clients {
		n += len(c.watches)
	}
	return n
}

type watch struct{ path, token string }

type transaction struct {
	start   uint64
	nodes   map[string]string
	changed []string
}

type client struct {
	store   *Store
	domain  uint32
	conn    net.Conn
	watches []watch
	open    map[uint32]*transaction
	next    uint32

	out  sync.Mutex // of queue; taken after store.mu
	cond *sync.Cond
	q    []xenstore.Message
	over bool
}

func (s *Store) serve(conn net.Conn, domain uint32) {
	c := &client{store: s, domain: domain, conn: conn, open: map[uint32]*transaction{}}
	c.cond = sync.NewCond(&c.out)
	s.mu.Lock()
	s.clients[c] = true
	s.mu.Unlock()
	go c.write()
	go c.read()
}

// write sends what is queued: an event must not wait for a client that is just writing.
func (c *client) write() {
	for {
		c.out.Lock()
		for len(c.q) == 0 && !c.over {
			c.cond.Wait()
		}
		q := c.q
		c.q = nil
		over := c.over
		c.out.Unlock()
		for _, m := range q {
			if m.Write(c.conn) != nil {
				return
			}
		}
		if over {
			return
		}
	}
}

func (c *client) send(m xenstore.Message) {
	c.out.Lock()
	defer c.out.Unlock()
	c.q = append(c.q, m)
	c.cond.Signal()
}

func (c *client) read() {
	defer func() {
		c.store.mu.Lock()
		delete(c.store.clients, c)
		c.store.mu.Unlock()
		c.out.Lock()
		c.over = true
		c.cond.Signal()
		c.out.Unlock()
		c.conn.Close()
	}()
	for {
		m, err := xenstore.ReadMessage(c.conn)
		if err != nil {
			return
		}
		c.store.mu.Lock()
		payload, errno := c.do(m)
		if m.Op == xenstore.OpWatch && !c.store.NumbersWatches {
			m.Request = 0
		}
		if errno != "" {
			m.Op, payload = xenstore.OpError, errno+"\x00"
		}
		c.send(xenstore.Message{Op: m.Op, Request: m.Request, Transaction: m.Transaction, Payload: []byte(payload)})
		if m.Op == xenstore.OpWatch {
			w := c.watches[len(c.watches)-1]
			c.event(w, w.path)
		}
		c.store.mu.Unlock()
	}
}

func (c *client) event(w watch, p string) {
	for range 1 + c.store.Duplicates {
		c.send(xenstore.Message{Op: xenstore.OpWatchEvent, Payload: []byte(p + "\x00" + w.token + "\x00")})
	}
}

// fire tells all watches at or above a path, and those below it where it was removed.
func (s *Store) fire(p string) {
	for c := range s.clients {
		for _, w := range c.watches {
			full := c.absolute(w.path)
			switch {
			case p == full || strings.HasPrefix(p, full+"/"):
				shown := p
				if full != w.path {
					shown = strings.TrimPrefix(p, c.home())
				}
				c.event(w, shown)
			case strings.HasPrefix(full, p+"/"):
				if _, ok := s.nodes[full]; !ok {
					c.event(w, w.path)
				}
			}
		}
	}
}

func (c *client) home() string { return fmt.Sprintf("/local/domain/%d/", c.domain) }

func (c *client) absolute(p string) string {
	if strings.HasPrefix(p, "/") || strings.HasPrefix(p, "@") {
		return path.Clean(p)
	}
	return c.home() + p
}

// needs is what a domain must be allowed to do with the node that a message is about.
var needs = map[xenstore.Op]string{
	xenstore.OpRead: "rb", xenstore.OpDirectory: "rb", xenstore.OpDirectoryPart: "rb", xenstore.OpGetPerms: "rb",
	xenstore.OpWrite: "wb", xenstore.OpMkdir: "wb", xenstore.OpRemove: "wb", xenstore.OpSetPerms: "own",
}

// may says whether the client may do that with a node: the control domain and the node's owner may do
// everything, others what the permissions say. A node that is not there has those of the one above it.
func (c *client) may(need string, nodes map[string]string, p string) bool {
	if c.domain == 0 || need == "" {
		return true
	}
	for _, ok := nodes[p]; !ok && p != "/"; _, ok = nodes[p] {
		p = path.Dir(p)
	}
	id := strconv.FormatUint(uint64(c.domain), 10)
	list := xenstore.Strings([]byte(c.store.permissions(p)))
	if list[0][1:] == id {
		return true
	}
	granted := list[0][:1] // to everybody else
	for _, one := range list[1:] {
		if one[1:] == id {
			granted = one[:1]
			break
		}
	}
	return strings.Contains(need, granted)
}

// permissions are a node's: its own, or those of the node above it, which it was made with.
func (s *Store) permissions(p string) string {
	for ; ; p = path.Dir(p) {
		if own, ok := s.perms[p]; ok {
			return own
		}
		if p == "/" || p == "." {
			return "n0\x00"
		}
	}
}

func (c *client) do(m xenstore.Message) (answer, errno string) {
	s := c.store
	first, rest, _ := strings.Cut(string(m.Payload), "\x00")
	nodes, p := s.nodes, c.absolute(first)
	var t *transaction
	if m.Transaction != 0 {
		if t = c.open[m.Transaction]; t == nil {
			return "", "ENOENT"
		}
		nodes = t.nodes
	}
	for d := range s.denied {
		if p == d || strings.HasPrefix(p, d+"/") {
			return "", "EACCES"
		}
	}
	changed := func() {
		if t != nil {
			t.changed = append(t.changed, p)
			return
		}
		s.generation++
		s.fire(p)
	}
	if !c.may(needs[m.Op], nodes, p) {
		return "", "EACCES"
	}
	value, exists := nodes[p]
	switch m.Op {
	case xenstore.OpRead:
		if !exists {
			return "", "ENOENT"
		}
		return value, ""
	case xenstore.OpDirectory, xenstore.OpDirectoryPart:
		if !exists {
			return "", "ENOENT"
		}
		return list(nodes, p, m.Op, rest, s.generation)
	case xenstore.OpWrite:
		grow(nodes, p)
		nodes[p] = rest
		changed()
	case xenstore.OpMkdir:
		grow(nodes, p)
		changed()
	case xenstore.OpRemove:
		if !exists {
			return "", "ENOENT"
		}
		maps.DeleteFunc(nodes, func(n, _ string) bool { return n == p || strings.HasPrefix(n, p+"/") })
		changed()
	case xenstore.OpSetPerms:
		if !exists {
			return "", "ENOENT"
		}
		s.perms[p] = rest // also in a transaction that does not come to its end
	case xenstore.OpGetPerms:
		return s.permissions(p), ""
	case xenstore.OpWatch:
		token, _, _ := strings.Cut(rest, "\x00")
		c.watches = append(c.watches, watch{first, token})
	case xenstore.OpUnwatch:
		n := len(c.watches)
		c.watches = slices.DeleteFunc(c.watches, func(w watch) bool { return w.path+"\x00"+w.token+"\x00" == string(m.Payload) })
		if len(c.watches) == n {
			return "", "ENOENT"
		}
	case xenstore.OpIsIntroduced:
		if s.alive[first] {
			return "T\x00", ""
		}
		return "F\x00", ""
	case xenstore.OpTransactionStart:
		c.next++
		c.open[c.next] = &transaction{start: s.generation, nodes: maps.Clone(s.nodes)}
		return fmt.Sprint(c.next) + "\x00", ""
	case xenstore.OpTransactionEnd:
		return c.end(m.Transaction, t, first)
	default:
		return "", "ENOSYS"
	}
	return "OK\x00", ""
}

func (c *client) end(id uint32, t *transaction, commit string) (answer, errno string) {
	delete(c.open, id)
	s := c.store
	switch {
	case t == nil:
		return "", "ENOENT"
	case commit != "T":
	case t.start != s.generation:
		return "", "EAGAIN"
	default:
		s.nodes = t.nodes
		for _, p := range t.changed {
			s.generation++
			s.fire(p)
		}
	}
	return "OK\x00", ""
}

// grow makes a node and those above it.
func grow(nodes map[string]string, p string) {
	for ; p != "/"; p = path.Dir(p) {
		if _, ok := nodes[p]; !ok {
			nodes[p] = ""
		}
	}
}

func list(nodes map[string]string, p string, op xenstore.Op, rest string, generation uint64) (answer, errno string) {
	var names []string
	for n := range nodes {
		if path.Dir(n) == p {
			names = append(names, path.Base(n)+"\x00")
		}
	}
	slices.Sort(names)
	all := strings.Join(names, "")
	if op == xenstore.OpDirectory {
		if len(all) > xenstore.MaxPayload {
			return "", "E2BIG"
		}
		return all, ""
	}
	text, _, _ := strings.Cut(rest, "\x00")
	offset, err := strconv.Atoi(text)
	if err != nil || offset < 0 || offset > len(all) {
		return "", "EINVAL"
	}
	head, part := fmt.Sprintf("%d\x00", generation), all[offset:]
	if room := xenstore.MaxPayload - len(head) - 1; len(part) > room {
		return head + part[:strings.LastIndexByte(part[:room], 0)+1], ""
	}
	return head + part + "\x00", ""
}
