package measure_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antievilmaid/aem/vtpm"
	"github.com/antievilmaid/aem/vtpm/measure"
)

const someUUID = "11111111-2222-3333-4444-555555555502"

const guestCfg = `# a guest
name = 'o'   # in either kind of quotes
type="pvh"
memory=96; vcpus = 1
ramdisk = "/lab/domU.gz" ;kernel="/lab/vmlinux.gz"# no space needed
extra="console=hvc0 quote=\"\\"
root='/dev/xvda'
vif=[ 'mac=00:16:3e:00:00:01,bridge=xenbr0',
      # a comment in a list
      'bridge=xenbr1', ]
on_crash="destroy\n"
vtpm=["backend=0, uuid = 11111111-2222-3333-4444-555555555502"]
usbdev += [ "a", [ 1, 0x2f ] ]
disk=[]`

func TestAConfigurationIsUnderstood(t *testing.T) {
	c, err := measure.ParseConfiguration([]byte(guestCfg))
	if err != nil {
		t.Fatal(err)
	}
	u, _ := vtpm.ParseUUID("11111111-2222-3333-4444-555555555502")
	got := fmt.Sprintf("%q", []string{c.Name, c.Type, c.Kernel, c.Ramdisk, c.CommandLine})
	want := fmt.Sprintf("%q", []string{"o", "pvh", "/lab/vmlinux.gz", "/lab/domU.gz", `root=/dev/xvda console=hvc0 quote="\`})
	if got != want {
		t.Errorf("%s; want %s", got, want)
	}
	if diff := cmp.Diff([]vtpm.UUID{u}, c.VTPMs); diff != "" {
		t.Error(diff)
	}
}

// What xl gets is the owner's file in which two values are others, and nothing else.
func TestWhatIsHandedOnDiffersInTwoValues(t *testing.T) {
	c, err := measure.ParseConfiguration([]byte(guestCfg))
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.With("/proc/self/fd/3", "/proc/12/fd/40")
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(guestCfg, `"/lab/domU.gz"`)
	between, after, ok2 := strings.Cut(rest, `"/lab/vmlinux.gz"`)
	if !ok || !ok2 {
		t.Fatal("the sample has not both values")
	}
	if want := before + `"/proc/12/fd/40"` + between + `"/proc/self/fd/3"` + after; string(got) != want {
		t.Error(cmp.Diff(want, string(got)))
	}
	for _, bad := range [][2]string{{"", "/proc/1/fd/1"}, {"/proc/1/fd/1", ""}, {"/a\"", "/b"}, {"/a\n", "/b"}} {
		if _, err := c.With(bad[0], bad[1]); err == nil {
			t.Errorf("%q was written", bad)
		}
	}
}

// With our own boot loader a guest starts with what its configuration names, and xl is handed none.
func TestOurBootLoader(t *testing.T) {
	const cfg = "name='a'; bootloader = \"/usr/lib/vtpmd/vtpm-bootloader\";kernel='/k' # it\nbootloader_args=[ \"/etc/xen/a.cfg\",\n]\nramdisk='/i'\n"
	c, err := measure.ParseConfiguration([]byte(cfg))
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.With("/proc/self/fd/3", "/proc/self/fd/4")
	if want := "name='a'; ;kernel=\"/proc/self/fd/3\" # it\n\n\nramdisk=\"/proc/self/fd/4\"\n"; err != nil || string(got) != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	for text, want := range map[string]string{
		"bootloader='pygrub'\nbootloader_args=['vtpm-bootloader']\n":      "line 3: what a guest with bootloader=",
		"bootloader='/tmp/not-vtpm-bootloader'\n":                         "line 3: what a guest with bootloader=",
		"bootloader='/usr/lib/vtpmd/vtpm-bootloader --pygrub'\n":          "line 3: what a guest with bootloader=",
		"bootloader_args=['vtpm-bootloader']\n":                           "line 3: what a guest with bootloader_args=",
		"x=['\\\\', 'bootloader=vtpm-bootloader']\nbootloader='pygrub'\n": "line 4: what a guest with bootloader=",
		"bootloader='vtpm-bootloader'\nbootloader='pygrub'\n":             "line 4: bootloader= stands in line 3 already",
		"bootloader='pygrub'\nbootloader='vtpm-bootloader'\n":             "line 4: bootloader= stands in line 3 already",
		"bootloader=['vtpm-bootloader']\n":                                "line 3: bootloader= is a list",
		"bootloader='vtpm-bootloader'\nfirmware='ovmf'\n":                 "line 4: what a guest with firmware=",
	} {
		if c, err := measure.ParseConfiguration([]byte("name='a'\nkernel='/k'\n" + text)); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %+v, %v; want %q", text, c, err, want)
		}
	}
}

func TestCommandLinesAreThoseOfXl(t *testing.T) {
	for lines, want := range map[string]string{
		"":                              "",
		"extra='quiet'":                 "quiet",
		"root='/dev/xvda ro'":           "root=/dev/xvda ro",
		"root='/dev/xvda'\nextra='3'":   "root=/dev/xvda 3",
		"cmdline='console=hvc0'":        "console=hvc0",
		"extra=3":                       "3",
		"cmdline=''":                    "",
		"extra=''\nroot='LABEL=a b  c'": "root=LABEL=a b  c ",
	} {
		c, err := measure.ParseConfiguration([]byte("name='a'\nkernel='/k'\n" + lines + "\n"))
		if err != nil || c.CommandLine != want || c.Type != "pv" {
			t.Errorf("%q: %+v, %v; want %q", lines, c, err, want)
		}
	}
}

func TestWhatCantBeReadIsRefusedWithItsLine(t *testing.T) {
	const good = "name='a'\nkernel='/k'\n" // two lines
	for text, want := range map[string]string{
		good + "x=\"never ends\n":                   "line 3: the string does not end",
		good + "x='ends after a backslash\\'\n":     "line 3: the string does not end",
		good + "x='a\\\nb'\n":                       "line 3: the string does not end",
		good + "x='never ends":                      "line 3: the string does not end",
		good + "import os\n":                        "line 3: there is \"os\" where an equals sign",
		good + "\nX=1\n":                            "line 4: 'X' has no meaning here",
		good + "x=-1\n":                             "line 3: '-' has no meaning here",
		good + "x='a'+'b'\n":                        "line 3: '+' has no meaning here",
		good + "x=a\n":                              "line 3: there is \"a\" where a string, a number or a list",
		good + "x=1 2\n":                            "line 3: there is \"2\" where the end of the line",
		good + "x=\n1\n":                            "line 3: the line ends where a string",
		good + "x=":                                 "line 3: the file ends where a string",
		good + "x=[1\n\n2]\n":                       "line 5: there is \"2\" where a comma or a closing bracket",
		good + "x=[,]\n":                            "line 3: there is \",\" where a string",
		good + "x=[1,\n":                            "line 4: the file ends where a string",
		good + "x=[[[[[[[[[[1]]]]]]]]]]\n":          "line 3: there are more than 8 lists",
		good + "='x'\n":                             "line 3: there is \"=\" where a parameter's name",
		good + "x=1\r\n":                            "line 3: '\\r' has no meaning here",
		good + "# no end":                           "line 3: the comment in the last line does not end",
		good + "\x00":                               "line 3: there is a zero byte",
		good + "kernel='/evil'\n":                   "line 3: kernel= stands in line 2 already",
		good + "type='pv'\ntype='pvh'\n":            "line 4: type= stands in line 3 already",
		good + "extra='a'\nextra+='b'\n":            "line 4: extra= stands in line 3 already",
		good + "extra+='b'\n":                       "line 3: extra+= is not read here",
		"name='a'\nkernel=['/k']\n":                 "line 2: kernel= is a list",
		good + "vtpm='backend=0'\n":                 "line 3: vtpm= is one value",
		good + "vtpm=['backend=0']\n":               "line 3: vtpm= has no uuid=",
		good + "vtpm=[['uuid=" + someUUID + "']]\n": "line 3: vtpm= holds a list in its list",
		good + "vtpm=['uuid=" + someUUID + ",uuid=" + someUUID + "']\n": "line 3: vtpm= needs one uuid=",
		good + "vtpm=[\n'uuid=1']\n":                                    "line 4: vtpm= needs one uuid=",
		good + "cmdline='a'\nextra='b'\n":                               "line 3: there is cmdline= and root= or extra=",
		good + "ramdisk=''\n":                                           "line 3: ramdisk= is empty",
		good + "ramdisk='initrd'\n":                                     "line 3: ramdisk= is not an absolute path",
		"name='a'\nkernel='vmlinuz'\n":                                  "line 2: kernel= is not an absolute path",
		"name='a'\nkernel='/k\\x41'\n":                                  `line 2: the escape \x is not read here`,
		"name='a'\nkernel='/k\t'\n":                                     "line 2: the string holds the control character 0x09",
		"name='a'\nmemory=96\n":                                         "line 3: there is no kernel=",
		"kernel='/k'\n":                                                 "line 2: the guest has no name=",
		good + "bootloader='pygrub'\n":                                  "line 3: what a guest with bootloader= starts with can't be measured",
		good + "firmware='ovmf'\n":                                      "line 3: what a guest with firmware= starts with can't be measured",
		good + "type='pvh'\npvshim=1\n":                                 "line 4: what a guest with pvshim= starts with can't be measured",
		good + "builder='hvm'\n":                                        "line 3: what a guest with builder= starts with can't be measured",
		good + "device_tree+='/x'\n":                                    "line 3: what a guest with device_tree= starts with can't be measured",
		"name='a'\ntype='hvm'\n":                                        "what a guest with type=\"hvm\" starts with can't be measured here",
		good + "type='PV'\n":                                            "what a guest with type=\"PV\" starts with can't be measured here",
		good + "extra='" + strings.Repeat("x", 1024) + "'\n":            "the command line has 1024 bytes, and Xen cuts",
	} {
		c, err := measure.ParseConfiguration([]byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.60q: %+v, %v; want %q", text, c, err, want)
			continue
		}
		var e *measure.ConfigurationError
		if strings.HasPrefix(want, "line") != errors.As(err, &e) {
			t.Errorf("%.60q: the error is a %T", text, err)
		}
	}
}

// Whatever is read can be handed on, and says then the same, but for the two values.
func FuzzParseConfiguration(f *testing.F) {
	f.Add([]byte(guestCfg))
	f.Add([]byte("name='a';bootloader='/usr/lib/vtpmd/vtpm-bootloader'\nbootloader_args=['a',\n'b']; bootloader_args=1 ;kernel='/k'\n"))
	seeds, err := filepath.Glob("testdata/*.cfg")
	if err != nil || len(seeds) < 2 {
		f.Fatalf("%d sample configurations, %v", len(seeds), err)
	}
	for _, s := range seeds {
		b, err := os.ReadFile(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := measure.ParseConfiguration(b)
		if err != nil {
			var e *measure.ConfigurationError
			if errors.As(err, &e) && (e.Line < 1 || e.Line > 1+strings.Count(string(b), "\n")) {
				t.Fatalf("the file has no line %d: %v", e.Line, err)
			}
			return
		}
		kernel, ramdisk := "/proc/self/fd/3", ""
		if c.Ramdisk != "" {
			ramdisk = "/proc/self/fd/4"
		}
		changed, err := c.With(kernel, ramdisk)
		if err != nil {
			t.Fatal(err)
		}
		again, err := measure.ParseConfiguration(changed)
		if err != nil {
			t.Fatalf("%q became %q: %v", b, changed, err)
		}
		if again.Kernel != kernel || again.Ramdisk != ramdisk {
			t.Fatalf("%q became %q", b, changed)
		}
		if again.Name != c.Name || again.Type != c.Type || again.CommandLine != c.CommandLine || len(again.VTPMs) != len(c.VTPMs) {
			t.Fatalf("%q became %q", b, changed)
		}
		if strings.Count(string(b), "\n") != strings.Count(string(changed), "\n") {
			t.Fatalf("%q became %q", b, changed)
		}
	})
}
