package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/aem"
	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/internal/cli"
	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/internal/vtpmbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm/admin"
)

var vtpmdPath = sync.OnceValues(func() (string, error) {
	b, err := testbed.Program("./cmd/vtpmd")
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "vtpmd-program-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "vtpmd")
	return path, os.WriteFile(path, b, 0o755)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := vtpmdPath(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// host is a machine on which vtpmd runs, and who speaks to it.
type host struct {
	t *testing.T
	*vtpmbed.Server
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := newBoard(t, tpm.V20)
	h.Do(aem.ExitOK, "The store", "init")
	return h
}

// newBoard is a host that was not set up yet.
func newBoard(t *testing.T, v tpm.Version) *host {
	t.Helper()
	path, err := vtpmdPath()
	must(t, err)
	return &host{t, vtpmbed.New(t, v, func(args ...string) *exec.Cmd { return exec.Command(path, args...) })}
}

// at adds to a command where the host's folders and its TPM are.
func (h *host) at(args ...string) []string { return append(args, h.Where()...) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ctl runs a command line.
func (h *host) ctl(input string, args ...string) (exit aem.Exit, out, errs string) {
	h.t.Helper()
	args = append(args, "--socket", filepath.Join(h.Dir, "run", "admin.sock"))
	return capture(h.t, input, args)
}

// capture runs a command line, and returns what it printed on both outputs.
func capture(t *testing.T, input string, args []string) (exit aem.Exit, out, errs string) {
	t.Helper()
	files := [3]*os.File{}
	for i := range files {
		f, err := os.CreateTemp(t.TempDir(), "")
		must(t, err)
		defer f.Close()
		files[i] = f
	}
	_, err := files[0].WriteString(input)
	must(t, err)
	_, err = files[0].Seek(0, 0)
	must(t, err)
	defer func(i, o, e *os.File) { os.Stdin, os.Stdout, os.Stderr = i, o, e }(os.Stdin, os.Stdout, os.Stderr)
	os.Stdin, os.Stdout, os.Stderr = files[0], files[1], files[2]
	exit = cli.Run(t.Context(), newCommand(), args)
	texts := [3]string{}
	for i, f := range files {
		b, err := os.ReadFile(f.Name())
		must(t, err)
		texts[i] = string(b)
	}
	return exit, texts[1], texts[2]
}

// want demands an exit code, and words in one of the outputs.
func (h *host) want(exit aem.Exit, words, input string, args ...string) string {
	h.t.Helper()
	got, out, errs := h.ctl(input, args...)
	if got != exit || !strings.Contains(out+errs, words) {
		h.t.Fatalf("vtpmctl %q: exit %d, %s%s; want %d and %q", args, got, out, errs, exit, words)
	}
	return out
}

// decoded is what a command prints as JSON.
func decoded[T any](h *host, args ...string) (v T) {
	h.t.Helper()
	_, out, errs := h.ctl("", append(args, "--json")...)
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		h.t.Fatalf("vtpmctl %q: %v: %s%s", args, err, out, errs)
	}
	return v
}

// The life of a vTPM, from its making to its end, in the words and in the JSON of each command.
func TestLife(t *testing.T) {
	h := newHost(t)
	h.want(aem.ExitNotPossible, "vtpmd does not answer", "", "list")
	d := h.Start()
	h.want(aem.ExitOK, `For xl: vtpm=["backend=Domain-0,uuid=`, "", "create", "--name", "web", "--only-measured", "--host-pcrs", "0-7")
	made := decoded[admin.VTPM](h, "create", "--name", "db", "--uuid", "0123abcd-4567-89ab-cdef-0123456789ab", "--family", "1.2", "--locality", "1", "--qemu-user", fmt.Sprint(os.Geteuid()))
	if made.UUID != "0123abcd-4567-89ab-cdef-0123456789ab" || made.Family != "1.2" || made.Socket == "" || made.Generation != 1 {
		t.Errorf("%+v", made)
	}
	h.want(aem.ExitError, "it exists already", "", "create", "--uuid", made.UUID)
	h.want(aem.ExitError, "localities 1 to 3", "", "create", "--locality", "4")
	h.want(aem.ExitError, "no TPM family", "", "create", "--family", "3")
	h.want(aem.ExitUsage, "one argument too many", "", "list", "x")
	h.want(aem.ExitUsage, "VTPM is missing", "", "show")

	list := decoded[admin.List](h, "list")
	if list.Total != 2 || len(list.VTPMs) != 2 || list.Next != "" || list.VTPMs[0].UUID > list.VTPMs[1].UUID {
		t.Errorf("%+v", list)
	}
	first := decoded[admin.List](h, "list", "-n", "1")
	second := decoded[admin.List](h, "list", "-n", "1", "--after", first.Next)
	if diff := cmp.Diff(list.VTPMs, append(first.VTPMs, second.VTPMs...)); diff != "" || second.Next != "" {
		t.Errorf("page by page the list is another one:\n%s", diff)
	}
	h.want(aem.ExitOK, "1.2", "", "list")
	show := decoded[struct {
		admin.VTPM
		Grade string `json:"grade"`
	}](h, "show", "web")
	if show.Grade != "launched" || !show.Policy.OnlyMeasured || show.Policy.HostPCRs != "0-7" || show.Guest != nil {
		t.Errorf("%+v", show)
	}
	h.want(aem.ExitError, `no vTPM is called "mail"`, "", "show", "mail")
	h.want(aem.ExitError, "does not run", "", "log", "web")

	who := h.Identity(made)
	h.want(aem.ExitOK, "vtpmd_vtpms 2", "", "metrics")
	h.want(aem.ExitOK, `vtpmd_command_seconds_count{vtpm="0123abcd-4567-89ab-cdef-0123456789ab"}`, "", "metrics")
	backup := filepath.Join(h.Dir, "backup")
	h.want(aem.ExitOK, "bytes are in", "", "backup", backup)
	h.want(aem.ExitError, "is there already", "", "backup", backup)

	h.want(aem.ExitError, "nothing was removed", "no\n", "remove", "db")
	h.want(aem.ExitOK, "Removed", "0123abcd\n", "remove", "db")
	h.want(aem.ExitOK, "Removed", "", "remove", "web", "--yes")
	h.want(aem.ExitError, "no vTPM has this UUID", "", "remove", "--yes", made.UUID)
	if _, err := os.Stat(made.Socket); err == nil {
		t.Error("QEMU's socket outlives its vTPM")
	}
	h.want(aem.ExitOK, "destroy", "", "remove", "--help")
	out := h.want(aem.ExitOK, "", "", "audit")
	for _, word := range []string{"set-up", "opened", "created", "started", "ended", "removed"} {
		if !strings.Contains(out, "  "+word+"  ") {
			t.Errorf("the audit log does not say %s:\n%s", word, out)
		}
	}
	d.Stop()
	h.want(aem.ExitOK, "was restored", "", h.at("restore", "--yes", backup)...)
	d = h.Start()
	if h.Identity(made) != who {
		t.Error("the restored vTPM is another one")
	}
	h.want(aem.ExitOK, "restored", "", "audit")
	d.Stop()
}

// A list of many pages is whole, and says so where a page does not.
func TestManyPages(t *testing.T) {
	dir, err := os.MkdirTemp("", "pages-")
	must(t, err)
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	must(t, err)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page := map[string]string{"": `{"total":3,"vtpms":[{"uuid":"a","policy":{}}],"next":"a"}`, "a": `{"total":3,"vtpms":[{"uuid":"b","policy":{}}],"next":"b","fault":"it is damaged"}`, "b": `{"total":3,"vtpms":[{"uuid":"c","policy":{}}]}`}
		fmt.Fprint(w, page[r.URL.Query().Get("after")])
	})}
	go s.Serve(l)
	defer s.Close()
	exit, out, errs := capture(t, "", []string{"list", "--json", "--socket", filepath.Join(dir, "s")})
	var list admin.List
	must(t, json.Unmarshal([]byte(out), &list))
	if len(list.VTPMs) != 3 || list.VTPMs[2].UUID != "c" || exit != aem.ExitError || !strings.Contains(errs, "the list is not complete: it is damaged") {
		t.Errorf("exit %d, %+v, %s", exit, list, errs)
	}
}

// xl in the place of Xen's: it asks for the guest's vTPM as QEMU would, which is the way there is here.
const script = `#!/bin/sh
set -e
cat /proc/self/fd/3 >"$0.configuration"
cat /proc/self/fd/5 >"$0.kernel"
echo libxl: error: there is no Xen here
exit 1
`

// What is under way is said, and why a guest does not start.
func TestRunSaysWhatItDoes(t *testing.T) {
	h := newHost(t)
	xl := filepath.Join(h.Dir, "xl")
	must(t, os.WriteFile(xl, []byte(script), 0o755))
	d := h.Start("--xl", xl)
	v := h.New("web", "2.0")
	for name, text := range map[string]string{
		"kernel":    "the kernel",
		"guest.cfg": fmt.Sprintf("name=\"web\"\nkernel=\"%s/kernel\"\nvtpm=[\"backend=Domain-0,uuid=%s\"]\n", h.Dir, v.UUID),
	} {
		must(t, os.WriteFile(filepath.Join(h.Dir, name), []byte(text), 0o644))
	}
	exit, _, errs := h.ctl("", "run", filepath.Join(h.Dir, "guest.cfg"))
	for _, words := range []string{"measuring " + h.Dir + "/kernel", "xl builds web", "was not started: xl create: exit status 1: libxl: error: there is no Xen here"} {
		if !strings.Contains(errs, words) || exit != aem.ExitError {
			t.Errorf("exit %d, and it does not say %q: %s", exit, words, errs)
		}
	}
	if b, err := os.ReadFile(xl + ".kernel"); err != nil || string(b) != "the kernel" {
		t.Errorf("xl was given %q, %v", b, err)
	}
	h.want(aem.ExitError, "no guest uses", "", "stop", v.UUID)
	image := filepath.Join(h.Dir, "image")
	h.want(aem.ExitError, "no guest of Xen's uses the vTPM", "", "suspend", v.UUID, image)
	h.want(aem.ExitError, "open the guest's image", "", "resume", "web", image)
	must(t, os.WriteFile(image, nil, 0o600))
	h.want(aem.ExitError, "this vTPM is not suspended", "", "resume", "web", image)

	output := filepath.Join(h.Dir, "out")
	arguments := []string{"bootloader", "--kernel=" + h.Dir + "/kernel", "--output=" + output, "--output-format=simple0", "--output-directory=" + h.Dir, filepath.Join(h.Dir, "guest.cfg"), "/dev/null"}
	h.want(aem.ExitOK, "", "", arguments...)
	b, err := os.ReadFile(output)
	must(t, err)
	items := bytes.Split(b, []byte{0})
	if len(items) != 3 || !bytes.HasPrefix(items[0], []byte("kernel /proc/")) || string(items[1]) != "args " || len(items[2]) != 0 {
		t.Errorf("libxl is told %q", b)
	}
	if kernel, err := os.ReadFile(strings.TrimPrefix(string(items[0]), "kernel ")); err != nil || string(kernel) != "the kernel" {
		t.Errorf("libxl finds %q, %v", kernel, err)
	}
	// A guest of QEMU's is not the one that was measured; its log says so.
	g := h.Guest(v.Socket)
	defer g.Close()
	h.want(aem.ExitOK, "its own firmware measures it", "", "show", "web")
	h.want(aem.ExitOK, "start firmware", "", "log", "web")
	h.want(aem.ExitOK, "pcrs:", "", "log", "web", "--format", "yaml")
	raw := h.want(aem.ExitOK, "", "", "log", "web", "--format", "raw")
	if log, err := eventlog.Parse([]byte(raw)); err != nil || len(log.Events) < 2 {
		t.Errorf("the raw log: %v", err)
	}
	if events := decoded[[]logEvent](h, "log", "web"); len(events) != 2 || events[0].Digests["sha256"] == "" {
		t.Errorf("%+v", events)
	}
	h.want(aem.ExitUsage, "no format", "", "log", "web", "--format", "xml")
	// What a guest of QEMU's will find is known before it starts.
	if events := decoded[[]logEvent](h, "log", "--next", "web"); len(events) != 2 || !strings.Contains(events[1].Text, "start firmware") {
		t.Errorf("of QEMU's next guest: %+v", events)
	}
	h.want(aem.ExitError, "the guest does not start", "", append(arguments, "--args=init=/bin/sh")...)
	h.want(aem.ExitUsage, "simple0", "", append(arguments, "--output-format=sxp")...)
	d.Stop()
}

// Each thing that is wrong is a row with advice, and an exit code.
func TestDoctor(t *testing.T) {
	h := newHost(t)
	find := func(rows []Row, name string) Row {
		t.Helper()
		for _, r := range rows {
			if r.Name == name {
				return r
			}
		}
		t.Fatalf("there is no row %q in %+v", name, rows)
		return Row{}
	}
	want := func(rows []Row, name, state, words string) {
		t.Helper()
		if r := find(rows, name); r.State != state || !strings.Contains(r.Text, words) || state == bad && r.Advice == "" {
			t.Errorf("%+v; want %s and %q", r, state, words)
		}
	}
	where := append([]string{"doctor"}, h.Where()...)
	d := h.Start()
	h.New("web", "2.0")
	rows := decoded[[]Row](h, where...)
	for name, words := range map[string]string{"vtpmd": "serves", "TPM": "/ctrl", "launch": "Dynamic launch", "key": "approved: the boot at", "store": "as it was written", "audit log": "what was written", "swtpm": "swtpm"} {
		want(rows, name, good, words)
	}
	d.Stop()
	journal := filepath.Join(h.State(), "journal")
	b, err := os.ReadFile(journal)
	must(t, err)
	must(t, os.WriteFile(journal, bytes.Replace(b, []byte("created"), []byte("creates"), 1), 0o600))
	d = h.Start()
	want(decoded[[]Row](h, where...), "audit log", bad, "broken")
	h.want(aem.ExitDamaged, "vtpmctl audit --accept", "", where...)
	d.Stop()

	want(decoded[[]Row](h, where...), "vtpmd", bad, "does not answer")
	want(decoded[[]Row](h, where...), "key", good, "opens in this boot")
	h.Boot("another line")
	rows = decoded[[]Row](h, where...)
	want(rows, "launch", good, "Dynamic launch")
	want(rows, "key", bad, "not one that was approved")

	dir := t.TempDir()
	for name, text := range map[string]string{
		"sys/hypervisor/type": "xen\n", "dev/xen/xenbus": "", "dev/xen/gntdev": "", "bin/old": "#!/bin/sh\necho '{\"features\":[\"tpm-2.0\"],\"version\":\"0.1\"}'",
		"bin/silent": "#!/bin/sh\nexit 1", "dev/vtpmx": "",
	} {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755))
	}
	examine := func(programs map[string]string) []Row {
		x := &doctor{root: dir, path: func(p string) (string, error) {
			if programs[p] == "" {
				return "", exec.ErrNotFound
			}
			return filepath.Join(dir, programs[p]), nil
		}}
		x.where.TPM, x.where.State = filepath.Join(dir, "dev/none"), filepath.Join(dir, "state")
		return x.examine(context.Background(), admin.NewClient(filepath.Join(dir, "none")))
	}
	rows = examine(map[string]string{"swtpm": "bin/old"})
	want(rows, "swtpm", bad, "lacks: tpm-1.2, cmdarg-key-fd")
	want(rows, "Xen", bad, "missing: /dev/xen/evtchn, /dev/xen/privcmd")
	want(rows, "xl", bad, "not found")
	want(rows, "/dev/vtpmx", good, "")
	want(rows, "vtpmd", warning, "does not answer")
	want(rows, "TPM", bad, "")
	want(examine(map[string]string{"swtpm": "bin/silent"}), "swtpm", bad, "does not say what it can")
	want(examine(nil), "swtpm", bad, "not found")
}

// A state of libvirt's is taken over with its identity; one that an swtpm has open is not.
func TestImport(t *testing.T) {
	h := newHost(t)
	d := h.Start()
	dir := h.Dir + "/libvirt"
	must(t, os.Mkdir(dir, 0o700))
	h.want(aem.ExitError, "neither tpm2-00.permall nor", "", "import", dir)
	password := filepath.Join(h.Dir, "password")
	must(t, os.WriteFile(password, []byte("a secret of libvirt's\n"), 0o600))
	run := exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+dir, "--ctrl", "type=unixio,path="+dir+"/ctrl", "--terminate", "--key", "pwdfile="+password+",mode=aes-256-cbc")
	must(t, run.Start())
	who := h.IdentityAt(dir+"/ctrl", "2.0", func() {
		h.want(aem.ExitError, "an swtpm uses", "", "import", dir)
	})
	must(t, run.Wait())
	h.want(aem.ExitError, "its key of 32 bytes is needed", "", "import", dir)
	v := decoded[admin.VTPM](h, "import", dir, "--name", "old", "--password-file", password, "--qemu-user", fmt.Sprint(os.Geteuid()))
	if v.Family != "2.0" || h.Identity(v) != who {
		t.Error("the imported vTPM is another one")
	}
	d.Stop()
}
