package seal_test

import (
	"encoding/hex"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/seal"
)

// TestMain is also the child of TestKilledAtEachStepOneGenerationOpens: told by
// its environment, the test program does one commit and kills itself in it.
func TestMain(m *testing.M) {
	if step := os.Getenv("KILL_AT"); step != "" {
		fmt.Println("the commit ended:", commitAndDie(seal.Step(step)))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func commitAndDie(step seal.Step) error {
	conn, err := swtpm.Dial(os.Getenv("SOCKET"))
	if err != nil {
		return err
	}
	file, err := os.ReadFile(os.Getenv("RECORD"))
	if err != nil {
		return err
	}
	r, err := seal.Parse(file)
	if err != nil {
		return err
	}
	b, err := openBackend(conn, r.Version, r.Anchor)
	if err != nil {
		return err
	}
	values, err := readPCRs(conn, r.Version)
	if err != nil {
		return err
	}
	credential, err := hex.DecodeString(os.Getenv("CREDENTIAL"))
	if err != nil {
		return err
	}
	return seal.Commit(os.Getenv("DIR"), b, r, values, credential, func(done seal.Step) {
		if done == step {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way
		}
	})
}
