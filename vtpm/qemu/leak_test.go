package qemu_test

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/tpm"
)

// A hundred clients leave no goroutine and no descriptor behind, however they go.
func TestClientsLeaveNothingBehind(t *testing.T) {
	f := newFake(tpm.V20)
	s := serve(t, f)
	s.start(t).die()
	s.log.wait("the client has gone", 1)
	before := descriptors(t)
	for i := range 100 {
		c := s.start(t)
		switch i % 4 {
		case 0:
			c.ctl.Write([]byte{0, 0, 0}) // in the middle of a request
		case 1:
			c.data.Write(readClock[:7]) // in the middle of a command
		case 2:
			c.want("00000000", swtpm.CmdShutdown)
		case 3:
			c.ask(swtpm.CmdStop, nil, 0, 1, 2, 0, 1, 2) // descriptors that nobody asked for
		}
		c.die()
		f.wait("end", i+2)
	}
	s.end()
	<-s.done
	if after := descriptors(t); after >= before+10 {
		t.Errorf("%d descriptors were open, and %d are", before, after)
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		for _, f := range []string{"(*client).serve(", "(*client).control(", "(*client).commands("} {
			if strings.Contains(stack, f) {
				t.Errorf("a goroutine is left: %s", stack)
			}
		}
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
