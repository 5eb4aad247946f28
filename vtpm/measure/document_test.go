package measure_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/antievilmaid/aem/internal/testbed"
	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/vtpm/measure"
)

// The document's example, run as its reader would, leads to what the document says, and to
// what the program computes.
func TestTheDocumentsExampleIsTrue(t *testing.T) {
	testbed.Need(t, "sh", "sha256sum", "basenc")
	doc, err := os.ReadFile("../../docs/formats/vtpm-measurements.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "## By hand\n")
	_, rest, _ = strings.Cut(rest, "```sh\n")
	script, rest, _ := strings.Cut(rest, "```\n")
	_, rest, _ = strings.Cut(rest, "```\n")
	says, _, ok := strings.Cut(rest, "```\n")
	if !ok {
		t.Fatal("the document has no example, or no result of it")
	}
	out, err := exec.Command("sh", "-e", "-c", script).Output()
	if err != nil || string(out) != says {
		t.Errorf("the example prints\n%s(%v), and the document says\n%s", out, err, says)
	}

	l := sample()
	l.Configuration, l.Kernel, l.Initrd = file("", "name=\"guest\"\n"), file("", "a kernel"), file("", "an initramfs")
	l.Host = measure.Host{Grade: measure.Launched, PCRs: hostPCRs(tpm.SHA256)}
	l.Host.PCRs[0].Values[17] = tpm.SHA256.Sum([]byte("host, code"))
	l.Host.PCRs[0].Values[18] = tpm.SHA256.Sum([]byte("host, data"))
	banks, err := l.Predict(allAlgs)
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for p := range tpm.PCRSet(1, 4, 5, 17, 18).All() {
		fmt.Fprintf(&want, "%d %s\n", p, banks.Value(tpm.SHA256, p))
	}
	if want.String() != says {
		t.Errorf("the program predicts\n%s, and the document says\n%s", want.String(), says)
	}
}
