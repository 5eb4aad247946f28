package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"golang.org/x/sys/unix"

	"github.com/antievilmaid/aem/internal/journal"
	"github.com/antievilmaid/aem/vtpm/xl"
)

// DefaultSocket is the administrator's socket in an installed system.
const DefaultSocket = "/run/vtpmd/admin.sock"

// Client asks a server.
type Client struct {
	path string
	http *http.Client
}

// NewClient asks at a socket. It connects when it has something to ask.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	return &Client{path, &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// do sends a request and returns an answer that is one. The caller closes its body.
func (c *Client) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var send io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		send = bytes.NewReader(b)
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://vtpmd"+path, send)
	if err != nil {
		return nil, err
	}
	rsp, err := c.http.Do(r)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		return nil, fmt.Errorf("%w at %s; start it (systemctl start vtpmd), or see why it does not start: journalctl -u vtpmd", ErrNoDaemon, c.path)
	case errors.Is(err, unix.EACCES):
		return nil, &Error{http.StatusForbidden, fmt.Sprintf("only root, and the group that vtpmd was told of, may connect to %s", c.path)}
	case err != nil:
		return nil, fmt.Errorf("ask vtpmd: %w", err)
	}
	if rsp.StatusCode == http.StatusOK {
		return rsp, nil
	}
	defer rsp.Body.Close()
	e := &Error{Status: rsp.StatusCode}
	if json.NewDecoder(io.LimitReader(rsp.Body, 1<<16)).Decode(e) != nil || e.Text == "" {
		e.Text = "vtpmd answered " + rsp.Status
	}
	return nil, e
}

// ask sends a request and reads the answer into v, which may be nil.
func (c *Client) ask(ctx context.Context, method, path string, body, v any) error {
	rsp, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer rsp.Body.Close()
	if v == nil {
		return nil
	}
	if err := json.NewDecoder(rsp.Body).Decode(v); err != nil {
		return fmt.Errorf("read vtpmd's answer: %w", err)
	}
	return nil
}

// Status asks for the host.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	err = c.ask(ctx, "GET", "/v1/status", nil, &s)
	return s, err
}

// List asks for a page of the list; 0 is the longest there is.
func (c *Client) List(ctx context.Context, after string, n int) (l List, err error) {
	q := url.Values{}
	if after != "" {
		q.Set("after", after)
	}
	if n > 0 {
		q.Set("n", fmt.Sprint(n))
	}
	err = c.ask(ctx, "GET", "/v1/vtpms?"+q.Encode(), nil, &l)
	return l, err
}

// Show asks for one.
func (c *Client) Show(ctx context.Context, uuid string) (v VTPM, err error) {
	err = c.ask(ctx, "GET", "/v1/vtpms/"+url.PathEscape(uuid), nil, &v)
	return v, err
}

// bytes asks for bytes.
func (c *Client) bytes(ctx context.Context, path string, w io.Writer) error {
	rsp, err := c.do(ctx, "GET", path, nil)
	if err != nil {
		return err
	}
	defer rsp.Body.Close()
	if _, err := io.Copy(w, rsp.Body); err != nil {
		return fmt.Errorf("read vtpmd's answer: %w", err)
	}
	return nil
}

// Log writes the measurement log of a vTPM's guest.
func (c *Client) Log(ctx context.Context, uuid string, w io.Writer) error {
	return c.bytes(ctx, "/v1/vtpms/"+url.PathEscape(uuid)+"/log", w)
}

// NextLog writes the log that the next guest will have that starts with a firmware, as QEMU's do.
func (c *Client) NextLog(ctx context.Context, uuid string, w io.Writer) error {
	return c.bytes(ctx, "/v1/vtpms/"+url.PathEscape(uuid)+"/log?next", w)
}

// Metrics writes what Prometheus gets.
func (c *Client) Metrics(ctx context.Context, w io.Writer) error { return c.bytes(ctx, "/metrics", w) }

// Backup writes a copy of the store.
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	return c.bytes(ctx, "/v1/backup", w)
}

// Escrow writes the store's key, encrypted to public keys of age's, one in each line.
func (c *Client) Escrow(ctx context.Context, to string, w io.Writer) error {
	rsp, err := c.do(ctx, "POST", "/v1/escrow", Escrowing{to})
	if err != nil {
		return err
	}
	defer rsp.Body.Close()
	if _, err := io.Copy(w, rsp.Body); err != nil {
		return fmt.Errorf("read vtpmd's answer: %w", err)
	}
	return nil
}

// Create makes a vTPM.
func (c *Client) Create(ctx context.Context, m Making) (v VTPM, err error) {
	err = c.ask(ctx, "POST", "/v1/vtpms", m, &v)
	return v, err
}

// Remove destroys one.
func (c *Client) Remove(ctx context.Context, uuid string) error {
	return c.ask(ctx, "DELETE", "/v1/vtpms/"+url.PathEscape(uuid), nil, nil)
}

// Run starts a guest by its configuration's absolute path.
func (c *Client) Run(ctx context.Context, configuration string, tell func(string)) error {
	return c.listen(ctx, "/v1/run", Running{configuration}, tell)
}

// Stop ends a guest.
func (c *Client) Stop(ctx context.Context, s Stopping, tell func(string)) error {
	return c.listen(ctx, "/v1/stop", s, tell)
}

// Suspend puts a guest into an image.
func (c *Client) Suspend(ctx context.Context, s Suspending, tell func(string)) error {
	return c.listen(ctx, "/v1/suspend", s, tell)
}

// Resume has it go on.
func (c *Client) Resume(ctx context.Context, r Resuming, tell func(string)) error {
	return c.listen(ctx, "/v1/resume", r, tell)
}

// listen passes on what is said while something goes on.
func (c *Client) listen(ctx context.Context, path string, ask any, tell func(string)) error {
	rsp, err := c.do(ctx, "POST", path, ask)
	if err != nil {
		return err
	}
	defer rsp.Body.Close()
	for d := json.NewDecoder(rsp.Body); ; {
		var w Word
		if err := d.Decode(&w); err != nil {
			return fmt.Errorf("vtpmd ended before this was done: %w", err)
		}
		switch {
		case w.Error != "":
			return &Error{http.StatusInternalServerError, w.Error}
		case w.Done:
			return nil
		}
		tell(w.Text)
	}
}

// Boot asks what libxl is to start a guest with.
func (c *Client) Boot(ctx context.Context, want xl.Loading) (got xl.Loading, err error) {
	err = c.ask(ctx, "POST", "/v1/boot", want, &got)
	return got, err
}

// Approve takes over which boots the machine approves.
func (c *Client) Approve(ctx context.Context) (a Approval, err error) {
	err = c.ask(ctx, "POST", "/v1/approve", nil, &a)
	return a, err
}

// Verify has the whole store read and proved.
func (c *Client) Verify(ctx context.Context) (faults []Fault, err error) {
	err = c.ask(ctx, "POST", "/v1/verify", nil, &faults)
	return faults, err
}

// Audit passes on the journal. The error says what is wrong with it.
func (c *Client) Audit(ctx context.Context, tell func(journal.Entry)) error {
	rsp, err := c.do(ctx, "GET", "/v1/audit", nil)
	if err != nil {
		return err
	}
	defer rsp.Body.Close()
	for d := json.NewDecoder(rsp.Body); ; {
		var line AuditLine
		if err := d.Decode(&line); err != nil {
			return fmt.Errorf("read the journal: %w", err)
		}
		switch {
		case line.Error != "":
			return &Error{http.StatusInternalServerError, line.Error}
		case line.Whole:
			return nil
		case line.Entry != nil:
			tell(*line.Entry)
		}
	}
}

// AcceptAudit takes the journal as it is.
func (c *Client) AcceptAudit(ctx context.Context) error {
	return c.ask(ctx, "POST", "/v1/audit/accept", nil, nil)
}
