package bootside_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/bootside"
)

// One answer of aem unseal leads on; whatever else becomes of it leads back to its start.
// The scripts run with a stand-in for aem, and with a folder in place of the root.
func TestTheGateHasOneWayOut(t *testing.T) {
	for needs, script := range map[string]string{
		initramfsTools: "etc/initramfs-tools/scripts/init-premount/aem",
		dracut:         "usr/lib/dracut/modules.d/50aem/aem-gate",
	} {
		root := having(t, needs)
		c := bootside.Config{Media: []string{"UUID=1", "UUID=2"}, Disks: []string{"a-b", "c-d"}, Plain: true}
		if err := bootside.Install(root, c); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(root, script))
		if err != nil {
			t.Fatal(err)
		}
		moved := strings.NewReplacer("/etc/aem/", root+"/etc/aem/", "/bin/aem", "aem", "/run/systemd/", root+"/run/systemd/", "/run/aem", root+"/run/aem", " /aem/", " "+root+"/aem/", ">/dev/console", ">>"+root+"/console").Replace(string(b))
		// The stand-in refuses, crashes, is ended, and lets the boot go on at last.
		programs := map[string]string{
			"aem": "#!/bin/sh\necho \"$@\" >>" + root + "/calls\nls " + root + `/run/systemd/ask-password >>` + root + `/asked 2>&1
case $(wc -l <` + root + `/calls) in
1) exit 4 ;;
2) kill -SEGV $$ ;;
3) kill -KILL $$ ;;
4) exit 0 ;;
esac
exit 1
`,
			"modprobe": "#!/bin/sh\nexit 1\n", // there is no such driver
			"sleep":    "#!/bin/sh\n",
			"gate":     moved,
		}
		for name, content := range programs {
			path := filepath.Join(root, "programs", name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(os.Mkdir(filepath.Join(root, "aem"), 0o700), os.WriteFile(filepath.Join(root, "aem/eventlog"), []byte("the log"), 0o600)); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "sh", filepath.Join(root, "programs/gate"))
		cmd.Env = append(os.Environ(), "PATH="+filepath.Join(root, "programs")+":"+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", script, err, out)
		}
		calls, _ := os.ReadFile(filepath.Join(root, "calls"))
		const call = "unseal --gate --power-off --tty /dev/console --wait 20s --medium UUID=1,UUID=2 --disk a-b --disk c-d --plain\n"
		if diff := cmp.Diff(strings.Repeat(call, 4), string(calls)); diff != "" {
			t.Errorf("%s: the calls are (-want +got) %s", script, diff)
		}
		if said, _ := os.ReadFile(filepath.Join(root, "console")); strings.Count(string(said), "trying again") != 3 {
			t.Errorf("%s: said is %s", script, said)
		}
		// What the stage before this one left is there when the root was switched.
		log := filepath.Join(root, "run/aem/eventlog")
		if b, err := os.ReadFile(log); err != nil || string(b) != "the log" {
			t.Errorf("%s: the log is %q, %v", script, b, err)
		} else if info, err := os.Stat(log); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: the log's mode is %v, %v", script, info.Mode(), err)
		}
		if needs != dracut {
			continue
		}
		// systemd and dracut are told as long as a person is being asked.
		if asked, _ := os.ReadFile(filepath.Join(root, "asked")); string(asked) != strings.Repeat("ask.aem\n", 4) {
			t.Errorf("the questions were %s", asked)
		}
		if list, err := os.ReadDir(filepath.Join(root, "run/systemd/ask-password")); err != nil || len(list) != 0 {
			t.Errorf("left is %v, %v", list, err)
		}
	}
}
