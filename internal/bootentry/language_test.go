package bootentry_test

import (
	"testing"

	"github.com/antievilmaid/aem/internal/bootentry"
)

// Each script sets variables; the command line shows what GRUB makes of them. A
// comparison of thousands of generated scripts with grub-emu found these rules right.
func TestLanguage(t *testing.T) {
	for _, test := range []struct{ name, script, words, want string }{
		{"variable", `set a=x`, `$a ${a}y`, `x xy`},
		{"assignment", `a=x`, `$a`, `x`},
		{"unset variable is no word", ``, `a $nothing b`, `a b`},
		{"unset variable in quotes is an empty word", ``, `a "$nothing" b`, `a  b`},
		{"unset", `set a=x; unset a`, `a$a`, `a`},
		{"splits at blanks", `set a=" x  y "`, `1$a'2'`, `1x y2`},
		{"does not split in quotes", `set a="x  y"`, `"$a"`, `"x  y"`},
		{"set takes one word", `set a=x y`, `$a`, `x`},
		{"single quotes", ``, `'$a "b" \c'`, `"$a \"b\" \\c"`},
		{"double quotes", `set a=x`, `"$a\$a\\\"\n"`, `x$a\\\"\\n`},
		{"backslash", ``, `a\ b \$c \\ \n \*`, `"a b" $c \\ n *`},
		{"quotes inside a word", ``, `a'b 'c"d"`, `"ab cd"`},
		{"continued line", ``, "a\\\nb \\\n c", `ab c`},
		{"line break in quotes", ``, "'a\nb'", "a\nb"},
		{"comment", "set a=x # set a=y\n# set a=z", `$a#b`, `x#b`},
		{"line with # is dropped even in quotes", "set a='1\n#2\n3'", `"$a"`, "1\n3"},
		{"carriage returns", "set a=x\r\nset b=y\r\n", `"$a$b"`, `xy`},
		{"status", `false; a=$?; true; b=$?`, `$a$b`, `10`},
		{"status of an assignment", `false; a=x; b=$?`, `$b`, `0`},
		{"status of if", `if false; then true; fi; a=$?`, `$a`, `0`},
		{"if", `if true; then a=1; else a=2; fi`, `$a`, `1`},
		{"else", `if false; then a=1; else a=2; fi`, `$a`, `2`},
		{"elif", `if false; then a=1; elif true; then a=2; else a=3; fi`, `$a`, `2`},
		{"last command decides", `if false; true; then a=1; else a=2; fi`, `$a`, `1`},
		{"not", `if ! false; then a=1; fi`, `$a`, `1`},
		{"for", `for i in 1 2 "3 4"; do a=$a.$i; done`, `$a`, `.1.2.3`},
		{"for without words", `for i in; do a=1; done`, `x$a`, `x`},
		{"while", `while [ "$a" != 111 ]; do a=1$a; done`, `$a`, `111`},
		{"until", `until [ "$a" = 111 ]; do a=1$a; done`, `$a`, `111`},
		{"break", `for i in 1 2 3; do if [ $i = 2 ]; then break; fi; a=$i; done`, `$a`, `1`},
		{"continue", `for i in 1 2 3; do if [ $i = 2 ]; then continue; fi; a=$a$i; done`, `$a`, `13`},
		{"break two", `for i in 1 2; do for j in 1 2; do break 2; done; a=1; done`, `x$a`, `x`},
		{"function", "function f {\na=$1-$#-$2\n}\nf x \"y z\"", `$a`, `x-2-y`},
		{"all arguments", "function f {\nfor i in \"$@\"; do a=\"$a<$i>\"; done\n}\nf \"p q\" r", `"$a"`, `"<p q><r>"`},
		{"arguments as one word", "function f {\na=\"$*\"\n}\nf \"p q\" r", `"$a"`, `"p q r"`},
		{"return", "function f {\nreturn 1\na=1\n}\nif f; then b=1; else b=2; fi", `$a$b`, `2`},
		{"shift too far", "function f {\nif shift 3; then a=1; else a=2; fi\n}\nf 1 2", `$a`, `2`},
		{"shift", "function f {\nshift; a=$1\n}\nf 1 2", `$a`, `2`},
		{"setparams", "function f {\nsetparams x y; a=$2\n}\nf 1 2", `$a`, `y`},
		{"keyword as an argument", "function f {\na=$1\n}\nf if", `$a`, `if`},
		{"eval", `a=b; eval "$a=c"`, `$b`, `c`},
		{"counting", `set n=5; increment n; increment n; decrement n`, `$n`, `6`},
		{"root without brackets", `set root=(hd9,gpt9); a=$root; unset root; search -l -s root L`, `$a`, `hd9,gpt9`},
		{"fonts don't matter", `if loadfont x; then set gfxmode=auto; else terminal_output console; fi`, `a`, `a`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := line(t, test.script+"\nmenuentry only {\nmultiboot2 /k "+test.words+"\n}\n")
			same(t, "words", test.want, got)
		})
	}
}

func TestConditions(t *testing.T) {
	for test, want := range map[string]bool{
		`a = a`: true, `a = b`: false, `a == a`: true, `a != b`: true, `a "<" b`: true, `b "<=" a`: false, `b ">" a`: true, `a ">=" a`: true,
		`2 -eq 02`: true, `10 -gt 9`: true, `10 -lt 9`: false, `-1 -lt 0`: true, `0x10 -eq 16`: true, `x -eq 0`: true, `3 -ge 3`: true, `3 -le 2`: false, `1 -ne 2`: true,
		`-n ""`: false, `-z ""`: true, `""`: false, `x`: true, `-n x`: true, ``: true, `!`: true,
		`! a = b`: true, `! ! a = b`: false, `a = a -a b = c`: false, `a = b -o b = b`: true, `a = b -o b = c`: false,
		`a = b -a b = b -o c = c`: true, `( a = b ) -o ( c = c )`: true, `( a = b -o c = c ) -a d = e`: false,
		`-f /k`: true, `-f /none`: false, `-e /dir`: true, `-f /dir`: false, `-d /dir`: true, `-d /dir/`: true, `-d /k`: false,
		`-s /k`: true, `-s /empty`: false, `-s /none`: false, `-e /`: true, `-d $prefix`: true, `-f ($root)/k`: true,
		`-n "$root"`: true, `-n "$prefix" -a -f /k`: true,
	} {
		f := boot(with(map[string]string{"empty": "", "grub/grub.cfg": "if [ " + test +
			" ]; then a=yes; else a=no; fi\nexport a\nmenuentry only {\nmultiboot2 /k $a\n}\n"}, "k dir/f"))
		e := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{f}}).Entries[0]
		if e.Err != nil {
			t.Errorf("[ %s ]: %v", test, e.Err)
			continue
		}
		same(t, test, map[bool]string{true: "yes", false: "no"}[want], e.Kernel.Line)
	}
}

// Where a condition can't be told, what differs afterwards is unknown and what is
// the same is known.
func TestConditionsThatCantBeTold(t *testing.T) {
	const script = `
if [ "$lockdown" = y ]; then a=1; b=1; c=x; else a=2; b=1; c=x; fi
for i in 1; do if cpuid -l; then d=1; fi; done
menuentry known { multiboot2 /k $b $c }
menuentry unknown { multiboot2 /k $a }
menuentry derived { e=x$a; multiboot2 /k "${e}y" }
menuentry count { f $a; multiboot2 /k $g }
menuentry inside { if [ $a = 1 ]; then multiboot2 /k; else multiboot2 /k2; fi }
menuentry agreed { if [ $a = 1 ]; then multiboot2 /k; else multiboot2 /k; fi }
menuentry path { multiboot2 /k$a }
menuentry loop { for i in $a; do multiboot2 /k; done }
menuentry "while" { while [ $a = 1 ]; do true; done }
menuentry command { $a }
menuentry later { if [ $a = 1 ]; then boot; fi; multiboot2 /k }
menuentry module { multiboot2 /k; if hwmatch x; then module2 /m1; fi }
menuentry number { h $a; multiboot2 /k $g }
menuentry second { h2 x $a; multiboot2 /k $g }
menuentry empty { if [ -n "$a" ]; then multiboot2 /k; else multiboot2 /k2; fi }
menuentry disk { if [ "$root" = hd0,gpt2 ]; then multiboot2 /k; else multiboot2 /k2; fi }
menuentry status { if cpuid -l; then true; else false; fi; multiboot2 /k $? }
menuentry bare { if [ $d = 1 ]; then true; fi; multiboot2 /k }
`
	m := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{small("function f {\ng=$#$1\n}\nfunction h {\ng=$#\n}\nfunction h2 {\ng=$3\n}\n" + script)}})
	for _, e := range m.Entries {
		switch e.Title {
		case "known", "agreed", "bare":
			if e.Err != nil {
				t.Errorf("%s: %v", e.Title, e.Err)
			}
		default:
			t.Run(e.Title, func(t *testing.T) { refused(t, e.Err, "") })
		}
	}
}

func TestRefusedText(t *testing.T) {
	for name, config := range map[string]string{
		"single quote": "set a='x", "double quote": "set a=\"x", "brace": "menuentry x {\ntrue\n", "lone brace": "}",
		"empty block": "menuentry x { }", "if without then": "if true; fi", "empty then": "if true; then fi",
		"done": "done", "pipe": "true | true", "and": "true && true", "background": "true &", "redirect": "echo > x",
		"two semicolons": "true ;; true", "semicolon first": "; true", "function in if": "if true; then\nfunction f {\ntrue\n}\nfi",
		"function without a name": "function 'f' {\ntrue\n}", "dollar": "set a=$", "dollar in quotes": `set a="5 $ x"`,
		"dollar brace": "set a=${b", "backslash at the end": "set a=\\", "double bracket": "[[ a = b ]]",
		"word after a block": "menuentry x { true } y", "zero byte": "set a=\x00u0\x00", "else twice": "if true; then true; else true; else true; fi",
		"loader outside an entry": "multiboot2 /k", "launch outside an entry": "slaunch", "boot outside an entry": "reboot",
		"option without a value": "menuentry x --class {\ntrue\n}", "option without a file": "load_env -f",
		"for without do": "for i in 1 2; true; done", "case": "case x in\nesac",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := bootentry.Read(bootentry.Options{Filesystems: []bootentry.Filesystem{small(config)}})
			refused(t, err, "grub.cfg:")
		})
	}
}

func TestRefusedCommands(t *testing.T) {
	for _, test := range []struct{ body, word string }{
		{"frobnicate /k", "frobnicate"},
		{"linux /missing", "there is no file /missing"},
		{"linux /k\ninitrd /missing", "there is no file /missing"},
		{"linux", "no file"},
		{"linux /dir", "regular file"},
		{"linux (hd0)+1", "hd0"},
		{"linux (hd0,gpt1)/k", "hd0,gpt1"},
		{"linux $nothing", "no file"},
		{"linux ../k", "list of blocks"},
		{"linux /dir/../k", "upwards"},
		{"linux /k x*", "names of files"},
		{"initrd /i1", "no kernel"},
		{"linux16 /k\ninitrd /i1", "no kernel"},
		{"linux /k\ninitrd newc:init:/i1", "newc"},
		{"linux /k\nmodule2 /m1", "no kernel"},
		{"module2 /m1", "no kernel"},
		{"multiboot2 /k\nmodule /m1", "no kernel"},
		{"multiboot2 /k\ninitrd /i1", "no kernel"},
		{"multiboot2 /k\nslaunch", "after the kernel"},
		{"slaunch magic\nmultiboot2 /k", "words"},
		{"slaunch_module /sinit.bin", "slaunch did not come before"},
		{"chainloader /k", "boot loader's sectors"},
		{"xen_hypervisor /k", "xen_hypervisor"},
		{"acpi /m1", "acpi"},
		{"devicetree /m1", "devicetree"},
		{"loopback l /m1", "loopback"},
		{"configfile /grub/grub.cfg", "another menu"},
		{"blscfg x", "words"},
		{"return", "outside a function"},
		{"boot", "nothing is loaded"},
		{`linux /k $"translated"`, "language"},
		{"search --file --set=root /k\nlinux /k", "first that holds"},
		{"regexp --set=x a b", "regexp"},
		{"load_env --frob", "--frob"},
		{"set root=hd1\nlinux /k", "hd1"},
	} {
		t.Run(test.body, func(t *testing.T) {
			f := small("menuentry only {\n" + test.body + "\n}\n")
			f.UUID, f.Label = "u", "l"
			m := read(t, bootentry.Options{Filesystems: []bootentry.Filesystem{f}, Platform: "pc"})
			err := m.Entries[0].Err
			if err == nil {
				t.Fatal("it is not refused")
			}
			if want := "grub.cfg:"; test.word != "" {
				containsBoth(t, err.Error(), want, test.word)
			}
		})
	}
}

// A function that has a command's name would never run.
func TestFunctionWithACommandsName(t *testing.T) {
	_, err := bootentry.Read(bootentry.Options{Filesystems: []bootentry.Filesystem{small("function linux {\ntrue\n}\n")}})
	refused(t, err, "name of a command")
}
