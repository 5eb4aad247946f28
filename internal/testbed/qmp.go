package testbed

import (
	"encoding/json"
	"fmt"
	"net"
	"sync"
	"time"
)

// qmp speaks QEMU's machine protocol (docs/interop/qmp-spec.txt of QEMU): one
// JSON object a line, with events between the answers.
type qmp struct {
	mu   sync.Mutex
	conn net.Conn
	read *json.Decoder
}

// qmpPatience bounds the wait for an answer: QEMU gives it between two
// instructions of the guest, however slow that is.
const qmpPatience = time.Minute

type qmpMessage struct {
	Event  string          `json:"event"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Description string `json:"desc"`
	} `json:"error"`
}

// newQMP reads the greeting and leaves the mode in which nothing else is allowed.
func newQMP(conn net.Conn) (*qmp, error) {
	q := &qmp{conn: conn, read: json.NewDecoder(conn)}
	var greeting struct {
		QMP json.RawMessage `json:"QMP"`
	}
	if err := q.read.Decode(&greeting); err != nil || greeting.QMP == nil {
		return nil, fmt.Errorf("QEMU did not greet on its control socket: %v", err)
	}
	_, err := q.execute("qmp_capabilities", nil)
	return q, err
}

func (q *qmp) execute(command string, arguments any) (json.RawMessage, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	q.conn.SetDeadline(time.Now().Add(qmpPatience))
	if err := json.NewEncoder(q.conn).Encode(request); err != nil {
		return nil, fmt.Errorf("send %s to QEMU: %w", command, err)
	}
	for {
		var m qmpMessage
		switch err := q.read.Decode(&m); {
		case err != nil:
			return nil, fmt.Errorf("read QEMU's answer to %s: %w", command, err)
		case m.Event != "":
			continue
		case m.Error != nil:
			return nil, fmt.Errorf("QEMU refused %s: %s", command, m.Error.Description)
		}
		return m.Return, nil
	}
}
