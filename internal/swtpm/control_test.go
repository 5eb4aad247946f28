package swtpm_test

import (
	"net"
	"path/filepath"
	"testing"

	"github.com/antievilmaid/aem/internal/swtpm"
)

// An emulator that has not yet noticed that the client before is gone is asked again.
func TestDialWaitsForTheClientBefore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ctrl")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		requests := swtpm.NewRequests(conn)
		defer requests.Close()
		for _, result := range []byte{0x1f, 0x1f, 0} {
			q, err := requests.Next()
			if err != nil {
				return
			}
			q.File.Close()
			conn.Write([]byte{0, 0, 0, result})
		}
	}()
	c, err := swtpm.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
