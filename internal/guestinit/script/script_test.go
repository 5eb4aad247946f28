package script_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/internal/guestinit/script"
)

func TestParseReadsWhatMarshalWrites(t *testing.T) {
	want := []script.Step{
		{Run: []string{"/bin/aem", "unseal"}, TTY: true, Env: []string{"A=b c"}},
		{Cat: "/sys/class/tpm/tpm0/pcr-sha1/17"},
		{Mount: []string{"/dev/vda", "/mnt", "ext4", "ro"}},
		{End: "reset"},
	}
	text, err := script.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := script.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestParseRefusesWhatItWouldMisread(t *testing.T) {
	for name, text := range map[string]string{
		"a misspelt step":  `{"rum":["/bin/aem"]}`,
		"nothing to do":    `{"tty":true}`,
		"two things to do": `{"run":["/bin/aem"],"end":"reset"}`,
		"no JSON":          `run /bin/aem`,
	} {
		t.Run(name, func(t *testing.T) {
			if steps, err := script.Parse([]byte(text)); err == nil {
				t.Errorf("read as %v", steps)
			}
		})
	}
}
