// Xenguest is what a machine of internal/xenbed needs besides its first process, in dom0 and
// in the guests: a word for each thing that a script does there.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// usage is printed where a word is not known.
const usage = `xenguest is for the test bed's machines.
in dom0:
  dom0                       start Xen's tools
  start NAME PROGRAM ARGS    start a program and go on
  kill NAME                  kill it (SIGKILL)
  stop NAME                  end it in order (SIGTERM)
  keep PROGRAM ARGS          start a program again when it died, with its files, as systemd does
  slay PROGRAM               kill who runs it (SIGKILL)
  obey                       run what comes over the virtio port
  mkdir FOLDER               make a folder
  flip FILE OFFSET           change a bit of a file
  block add|remove           say that a disk is there, in the place of /etc/xen/scripts/block
  digests FILE               print them as JSON
  hostpcrs                   print PCRs 17 and 18 of the machine as JSON
  ask GUEST WORDS            ask a guest that runs answer, and print what it answers; what is to be sealed is read
  expect GUEST PATTERN       wait until a guest has printed something
  tell GUEST WORD            give a guest the word that it awaits
  reborn GUEST NUMBER        wait until a guest has another number
  consoles                   print what the guests have printed, and what xl wrote down of them
  manager                    serve vTPMs, with swtpm and nothing more
in a guest:
  await WORD                 wait for a word from dom0
  rebind DRIVER DEVICE       take a device from its driver and give it back
  poweroff                   what Linux runs when the toolstack says so
  answer                     answer: pcrs, log, extend TEXT, seal TEXT, open BLOB
  tpm 1.2|2.0 DEVICE         read a PCR and random bytes
`

func main() {
	words := map[string]func(args []string) error{
		"dom0": startDom0, "start": startProgram, "kill": endBy(unix.SIGKILL), "stop": endBy(unix.SIGTERM),
		"obey": obey, "keep": keep, "slay": slay, "flip": flip, "mkdir": func(a []string) error { return os.MkdirAll(a[0], 0o755) }, "block": block, "poweroff": powerOff, "digests": digests, "hostpcrs": hostPCRs, "ask": ask, "reborn": reborn, "answer": answer, "expect": expect, "tell": tell,
		"consoles": consoles, "manager": manage, "await": await, "rebind": rebind, "tpm": useTPM,
	}
	switch name := filepath.Base(os.Args[0]); name {
	case "block", "poweroff": // as the toolstack calls it for a disk, and a guest's kernel
		os.Args = append([]string{os.Args[0], name}, os.Args[1:]...)
	}
	if len(os.Args) < 2 || words[os.Args[1]] == nil {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err := words[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Println("xenguest", os.Args[1]+":", err)
		os.Exit(1)
	}
}
