package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// tools is the way without this project: a shell script that calls tpm2-tools.
type tools struct {
	dir   string
	port  int
	swtpm *exec.Cmd
}

// prepare seals a secret to three PCRs under a persistent ECC key, as a careful
// administrator would, and defines an NV index with a freshness value.
const prepare = `set -e
tpm2_createprimary -Q -C o -G ecc -c primary.ctx
tpm2_evictcontrol -Q -C o -c primary.ctx 0x81000001
tpm2_startauthsession --session s.ctx
tpm2_policypcr -Q -S s.ctx -l sha256:13,17,18 -L policy
tpm2_flushcontext s.ctx
tpm2_flushcontext -t
printf 'a sentence of usual length, such as this one' |
  tpm2_create -Q -C 0x81000001 -L policy -a 'fixedtpm|fixedparent|noda' -u pub -r priv -i -
tpm2_nvdefine -Q -C o -s 32 -a 'ownerread|ownerwrite|authread|authwrite' 0x1500020
printf '01234567890123456789012345678901' | tpm2_nvwrite -Q -C o -i - 0x1500020
tpm2_flushcontext -t`

// open is what the script does at each boot.
const open = `set -e
tpm2_pcrread -Q sha1:13,17,18+sha256:13,17,18
tpm2_nvread -C o -s 32 0x1500020 >fresh
tpm2_load -Q -C 0x81000001 -u pub -r priv -c obj.ctx
tpm2_flushcontext -t
tpm2_startauthsession --policy-session --session s.ctx
tpm2_policypcr -Q -S s.ctx -l sha256:13,17,18
tpm2_unseal -Q -c obj.ctx -p session:s.ctx >secret
tpm2_flushcontext s.ctx
tpm2_flushcontext -t`

func newTools(dir string) (*tools, error) {
	if _, err := exec.LookPath("tpm2_unseal"); err != nil {
		return nil, errors.New("tpm2-tools are not installed; scripts/install-deps installs them")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	t := &tools{dir: dir}
	if err := t.start(); err != nil {
		return nil, err
	}
	if _, err := t.shell(prepare); err != nil {
		t.stop()
		return nil, err
	}
	return t, nil
}

// start starts an emulator on two free ports: tpm2-tools speak to no other socket.
func (t *tools) start() error {
	for range 10 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		t.port = l.Addr().(*net.TCPAddr).Port
		l.Close()
		t.swtpm = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+t.dir,
			"--server", "type=tcp,port="+strconv.Itoa(t.port), "--ctrl", "type=tcp,port="+strconv.Itoa(t.port+1),
			"--flags", "not-need-init,startup-clear")
		if err := t.swtpm.Start(); err != nil {
			return err
		}
		for range 200 {
			if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", t.port+1)); err == nil {
				c.Close()
				return nil
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.stop() // somebody else has the second port
	}
	return errors.New("an emulator for tpm2-tools does not come up")
}

func (t *tools) stop() {
	t.swtpm.Process.Kill()
	t.swtpm.Wait()
}

func (t *tools) shell(script string) (ms float64, err error) {
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = t.dir
	cmd.Env = append(os.Environ(), fmt.Sprintf("TPM2TOOLS_TCTI=swtpm:host=127.0.0.1,port=%d", t.port))
	return timed(cmd)
}

// unseal runs the script and looks whether it worked.
func (t *tools) unseal() (float64, error) {
	ms, err := t.shell(open)
	if err != nil {
		return 0, err
	}
	if b, err := os.ReadFile(filepath.Join(t.dir, "secret")); err != nil || len(b) == 0 {
		return 0, fmt.Errorf("the script opened nothing: %w", err)
	}
	return ms, nil
}
