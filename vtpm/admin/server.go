package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/antievilmaid/aem/internal/journal"
	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/manager"
	"github.com/antievilmaid/aem/vtpm/store"
	"github.com/antievilmaid/aem/vtpm/xl"
)

// Host is what the server has to know of the machine that it can't ask the manager.
type Host interface {
	Status() (Status, error)
	// Approve takes over what the machine's own set-up approves.
	Approve() (*Approval, error)
	// Escrow gives out the store's key, encrypted to public keys of age's, one in each line.
	Escrow(to string) ([]byte, error)
	// Journal is the audit log, and what is wrong with it, held against its end as the store keeps it.
	Journal() (*journal.Journal, error)
	// AcceptJournal takes the journal as it is.
	AcceptJournal() error
	// Socket is where QEMU reaches a vTPM with this policy; empty where it can't.
	Socket(vtpm.UUID, manager.Policy) string
	// Made and Removed say that a vTPM is there now, or is not any more.
	Made(vtpm.UUID, manager.Policy)
	Removed(vtpm.UUID)
}

// Server answers the administrator.
type Server struct {
	Manager *manager.Manager
	Host    Host
	Starter *xl.Starter
	Group   uint32 // may look; 0 for none
	Log     *slog.Logger
}

// Serve answers on a socket of [Listen] until ctx ends, which is no error.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	h := &http.Server{Handler: s.handler(), ConnContext: withPeer, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug)}
	defer context.AfterFunc(ctx, func() {
		patience, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		h.Shutdown(patience)
		h.Close()
	})()
	if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("answer the administrator: %w", err)
	}
	return nil
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]http.HandlerFunc{
		"GET /v1/status":           answering(s.status),
		"GET /v1/vtpms":            answering(s.list),
		"GET /v1/vtpms/{uuid}":     answering(s.show),
		"GET /v1/vtpms/{uuid}/log": s.log,
		"GET /metrics":             s.metrics,
	} {
		mux.HandleFunc(pattern, s.allow(looker, h))
	}
	for pattern, h := range map[string]http.HandlerFunc{
		"POST /v1/vtpms":          answering(s.create),
		"DELETE /v1/vtpms/{uuid}": answering(s.remove),
		"POST /v1/run":            s.run,
		"POST /v1/stop":           s.stop,
		"POST /v1/suspend":        s.suspend,
		"POST /v1/resume":         s.resume,
		"POST /v1/boot":           answering(s.boot),
		"POST /v1/approve":        answering(func(*http.Request) (any, error) { return s.Host.Approve() }),
		"POST /v1/verify":         answering(s.verify),
		"GET /v1/backup":          s.backup,
		"POST /v1/escrow":         s.escrow,
		"GET /v1/audit":           s.audit,
		"POST /v1/audit/accept":   answering(func(*http.Request) (any, error) { return struct{}{}, s.Host.AcceptJournal() }),
	} {
		mux.HandleFunc(pattern, s.allow(owner, h))
	}
	return mux
}

// ErrBad is wrapped where the request itself is wrong.
var ErrBad = errors.New("the request makes no sense")

// answering makes a handler of a function that has an answer.
func answering(f func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		if err != nil {
			answerError(w, statusOf(err), err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(v) // the peer may be gone, which hurts nobody
	}
}

func answerError(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(Error{Text: err.Error()})
}

func statusOf(err error) int {
	for _, e := range []struct {
		err    error
		status int
	}{
		{ErrBad, http.StatusBadRequest}, {store.ErrUnknown, http.StatusNotFound}, {store.ErrExists, http.StatusConflict},
		{manager.ErrRunning, http.StatusConflict}, {manager.ErrTaken, http.StatusConflict}, {manager.ErrPrepared, http.StatusConflict},
		{manager.ErrClosed, http.StatusServiceUnavailable}, {store.ErrClosed, http.StatusServiceUnavailable},
	} {
		if errors.Is(err, e.err) {
			return e.status
		}
	}
	return http.StatusInternalServerError
}

// read reads a request's body.
func read(r *http.Request, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, 2*store.MaxState))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", ErrBad, err)
	}
	return nil
}

func uuidOf(r *http.Request) (vtpm.UUID, error) {
	u, err := vtpm.ParseUUID(r.PathValue("uuid"))
	if err != nil {
		return u, fmt.Errorf("%w: %w", ErrBad, err)
	}
	return u, nil
}

func (s *Server) status(*http.Request) (any, error) { return s.Host.Status() }

// pageSize is how many vTPMs are listed at once at most, and where nobody said how many.
const pageSize = 1000

func (s *Server) list(r *http.Request) (any, error) {
	var after vtpm.UUID
	n := pageSize
	var err error
	if q := r.URL.Query().Get("after"); q != "" {
		after, err = vtpm.ParseUUID(q)
	}
	if q := r.URL.Query().Get("n"); q != "" && err == nil {
		n, err = strconv.Atoi(q)
	}
	if err != nil || n < 1 {
		return nil, fmt.Errorf("%w: the page is from %q on", ErrBad, r.URL.RawQuery)
	}
	n = min(n, pageSize)
	entries, err := s.Manager.List(after, n+1)
	page := List{VTPMs: []VTPM{}}
	if err != nil {
		page.Fault = err.Error()
	}
	if page.Total, err = s.Manager.Count(); err != nil {
		return nil, err
	}
	running := s.Manager.Running()
	for i, e := range entries {
		if i == n {
			page.Next = entries[n-1].UUID.String()
			break
		}
		page.VTPMs = append(page.VTPMs, s.describe(e.UUID, e.Record, e.Err, running))
	}
	return page, nil
}

// describe puts together what the store and what the manager know of a vTPM.
func (s *Server) describe(u vtpm.UUID, r *store.Record, fault error, running map[vtpm.UUID]manager.Running) VTPM {
	v := VTPM{UUID: u.String()}
	if fault == nil {
		v.Name, v.Family, v.Created, v.Changed, v.Generation = r.Name, familyText(r.Family), r.Created.UTC(), r.Changed.UTC(), r.Generation
		v.WasLate = r.Flags&manager.FlagLate != 0
		if v.Policy, fault = manager.ParsePolicy(r.Config); fault == nil {
			v.Socket = s.Host.Socket(u, v.Policy)
		}
	}
	if fault != nil {
		v.Fault = fault.Error()
	}
	if g, ok := running[u]; ok {
		v.Guest = &Guest{Domain: g.Guest.Domain, Late: g.Guest.Late, Since: g.Since.UTC(), Connected: g.Connected, Died: g.Died}
		if g.Start != 0 {
			v.Guest.Start = g.Start.String()
		}
		if g.Paused != nil {
			v.Guest.Paused = g.Paused.Error()
		}
		v.Generation = max(v.Generation, g.Generation)
	}
	if f := s.Manager.Refused(u); f != nil {
		v.Refused = &Refused{f.At.UTC(), f.Text}
	}
	return v
}

func (s *Server) show(r *http.Request) (any, error) {
	u, err := uuidOf(r)
	if err != nil {
		return nil, err
	}
	record, err := s.Manager.Get(u)
	if errors.Is(err, store.ErrUnknown) || errors.Is(err, store.ErrClosed) {
		return nil, err
	}
	v := s.describe(u, record, err, s.Manager.Running())
	if image, err := s.Manager.Suspended(u); err == nil && image != nil {
		v.Suspended = image.Name
	}
	return v, nil
}

func (s *Server) log(w http.ResponseWriter, r *http.Request) {
	u, err := uuidOf(r)
	of := s.Manager.Log
	if r.URL.Query().Has("next") {
		of = s.Manager.NextLog
	}
	var log []byte
	if err == nil {
		log, err = of(u)
	}
	if err != nil {
		answerError(w, statusOf(err), err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Write(log)
}

func (s *Server) create(r *http.Request) (any, error) {
	var m Making
	if err := read(r, &m); err != nil {
		return nil, err
	}
	family, err := parseFamily(m.Family)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBad, err)
	}
	u := vtpm.NewUUID()
	if m.UUID != "" {
		if u, err = vtpm.ParseUUID(m.UUID); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBad, err)
		}
	}
	if len(m.State) > 0 {
		err = s.Manager.Import(r.Context(), u, m.Name, family, m.Policy, m.State, m.Key)
		clear(m.State)
		clear(m.Key)
	} else {
		err = s.Manager.Create(r.Context(), u, m.Name, family, m.Policy)
	}
	if err != nil {
		return nil, err
	}
	s.Host.Made(u, m.Policy)
	record, err := s.Manager.Get(u)
	return s.describe(u, record, err, nil), nil
}

func (s *Server) remove(r *http.Request) (any, error) {
	u, err := uuidOf(r)
	if err != nil {
		return nil, err
	}
	if err := s.Manager.Remove(u); err != nil {
		return nil, err
	}
	s.Host.Removed(u)
	return struct{}{}, nil
}

func (s *Server) boot(r *http.Request) (any, error) {
	var want xl.Loading
	if err := read(r, &want); err != nil {
		return nil, err
	}
	return s.Starter.Boot(r.Context().Value(peerKey{}).(*peer).pid, want)
}

func (s *Server) verify(*http.Request) (any, error) {
	faults := []Fault{}
	err := s.Manager.Store.Verify(func(f store.Fault) {
		text := Fault{Text: f.Err.Error()}
		if f.UUID != (vtpm.UUID{}) {
			text.UUID = f.UUID.String()
		}
		faults = append(faults, text)
	})
	return faults, err
}

// saying answers with words while something goes on.
func saying(w http.ResponseWriter, do func(tell func(string)) error) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	e := json.NewEncoder(w)
	say := func(word Word) {
		e.Encode(word)
		http.NewResponseController(w).Flush()
	}
	if err := do(func(text string) { say(Word{Text: text}) }); err != nil {
		say(Word{Error: err.Error()})
		return
	}
	say(Word{Done: true})
}

func (s *Server) run(w http.ResponseWriter, r *http.Request) {
	var ask Running
	if err := read(r, &ask); err != nil {
		answerError(w, statusOf(err), err)
		return
	}
	saying(w, func(tell func(string)) error { return s.Starter.Run(ask.Configuration, tell) })
}

func (s *Server) stop(w http.ResponseWriter, r *http.Request) {
	var ask Stopping
	if err := read(r, &ask); err != nil {
		answerError(w, statusOf(err), err)
		return
	}
	saying(w, func(tell func(string)) error {
		return s.Starter.Stop(r.Context(), ask.Guest, time.Duration(ask.Seconds)*time.Second, tell)
	})
}

func (s *Server) suspend(w http.ResponseWriter, r *http.Request) {
	var ask Suspending
	if err := read(r, &ask); err != nil {
		answerError(w, statusOf(err), err)
		return
	}
	saying(w, func(tell func(string)) error { return s.Starter.Suspend(ask.Guest, ask.Image, tell) })
}

func (s *Server) resume(w http.ResponseWriter, r *http.Request) {
	var ask Resuming
	err := read(r, &ask)
	var u vtpm.UUID
	if err == nil {
		if u, err = vtpm.ParseUUID(ask.VTPM); err != nil {
			err = fmt.Errorf("%w: %w", ErrBad, err)
		}
	}
	if err != nil {
		answerError(w, statusOf(err), err)
		return
	}
	saying(w, func(tell func(string)) error { return s.Starter.Resume(u, ask.Image, tell) })
}

func (s *Server) backup(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := s.Manager.Store.Backup(w); err != nil {
		s.Log.Error("the backup is not whole", "because", err)
		panic(http.ErrAbortHandler) // so that the peer sees that the end is missing
	}
}

func (s *Server) escrow(w http.ResponseWriter, r *http.Request) {
	var ask Escrowing
	err := read(r, &ask)
	var file []byte
	if err == nil {
		file, err = s.Host.Escrow(ask.To)
	}
	if err != nil {
		answerError(w, statusOf(err), err)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", strconv.Itoa(len(file))) // so that the peer sees where the end is missing
	w.Write(file)
}

// AuditLine is an entry of the journal; the last one says whether all of them are as they were written.
type AuditLine struct {
	Entry *journal.Entry `json:"entry,omitempty"`
	Whole bool           `json:"whole,omitempty"`
	Error string         `json:"error,omitempty"`
}

func (s *Server) audit(w http.ResponseWriter, _ *http.Request) {
	j, fault := s.Host.Journal()
	w.Header().Set("Content-Type", "application/x-ndjson")
	e := json.NewEncoder(w)
	if j != nil {
		for entry, err := range j.Entries() {
			if err != nil {
				fault = errors.Join(fault, err)
				break
			}
			e.Encode(AuditLine{Entry: &entry})
		}
	}
	if fault != nil {
		e.Encode(AuditLine{Error: fault.Error()})
		return
	}
	e.Encode(AuditLine{Whole: true})
}
