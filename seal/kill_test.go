package seal_test

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/antievilmaid/aem/internal/swtpm"
	"github.com/antievilmaid/aem/seal"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
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
	var b seal.Backend
	var values tpm.Banks
	if r.Version == tpm.V20 {
		if b, err = seal.OpenTPM2(tpm2.New(conn), r.Anchor); err == nil {
			values, err = tpm2.New(conn).ReadPCRs(pcrs)
		}
	}
	if err != nil {
		return err
	}
	return seal.Commit(os.Getenv("DIR"), b, r, values, []byte(os.Getenv("CREDENTIAL")), func(done seal.Step) {
		if done == step {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way
		}
	})
}
