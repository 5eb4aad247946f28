package bootentry

import (
	"fmt"
	"strings"
)

var searchOptions = []option{
	{"file", 'f', noValue}, {"label", 'l', noValue}, {"fs-uuid", 'u', noValue}, {"set", 's', mayHaveValue},
	{"no-floppy", 'n', noValue}, {"hint", 'h', needsValue}, {"hint-ieee1275", 0, needsValue},
	{"hint-bios", 0, needsValue}, {"hint-baremetal", 0, needsValue}, {"hint-efi", 0, needsValue}, {"hint-arc", 0, needsValue},
}

// search looks for a file system (commands/search_wrap.c).
func (c *call) search() (string, error) {
	opts, rest, err := c.parseOptions(searchOptions, true)
	if err != nil {
		return "", err
	}
	for len(rest) > 0 && strings.HasPrefix(rest[0], "--hint-") {
		rest = rest[1:]
	}
	var variable string
	set, given := opts["set"]
	if given {
		if variable = set[len(set)-1]; variable == "" {
			variable = "root"
		}
	}
	var what string
	switch {
	case len(rest) > 0:
		what = rest[0]
	case given && set[len(set)-1] != "":
		what, variable = set[len(set)-1], "root"
	default:
		return failure, nil
	}
	switch {
	case opts["label"] != nil:
		return c.find("label", what, variable)
	case opts["fs-uuid"] != nil:
		return c.find("fs-uuid", what, variable)
	case opts["file"] != nil:
		return c.find("file", what, variable)
	}
	return failure, nil
}

// searchOne is search.file and its like: what to look for, and the variable.
func (c *call) searchOne() (string, error) {
	if len(c.args) == 0 {
		return failure, nil
	}
	variable := ""
	if len(c.args) > 1 {
		variable = c.args[1]
	}
	how := map[string]string{"search.file": "file", "search.fs_label": "label", "search.fs_uuid": "fs-uuid"}[c.name]
	return c.find(how, c.args[0], variable)
}

// find does what a search does once its words are understood. An identifier that
// none of the given file systems has leads to a disk that is not known: it may
// well be there.
func (c *call) find(how, what, variable string) (string, error) {
	if variable == "" {
		return c.e.unknown("what a search finds and does not keep is not followed"), nil
	}
	if marked(variable) {
		return "", c.refuse("the variable's name is not known: %s", c.e.why(variable))
	}
	if marked(what) || c.loose >= 0 {
		v := c.e.unknown("what is searched for is not known")
		return v, c.s.set(c.at, variable, v)
	}
	d := device{fs: -1, name: how + " " + what}
	status := success
	for i, f := range c.e.fs {
		if how == "fs-uuid" && f.UUID != "" && strings.EqualFold(f.UUID, what) || how == "label" && f.Label != "" && f.Label == what {
			d.fs = i
			break
		}
	}
	if d.fs < 0 && (how == "fs-uuid" && c.e.fs[0].UUID == "" || how == "label" && c.e.fs[0].Label == "") {
		// The boot file system's own identifier was not given. Then the one identifier
		// that the configuration looks for is the boot file system's.
		switch c.e.assumed {
		case "":
			c.e.assumed = d.name
			c.e.note(fmt.Sprintf("the search for %s finds the file system in which GRUB's configuration lies", d.name))
			fallthrough
		case d.name:
			d.fs = 0
		default:
			c.e.conflict = c.refuse("it looks for %s and elsewhere for %s: give the UUIDs of the file systems to say which is which",
				d.name, c.e.assumed)
			return "", c.e.conflict
		}
	}
	if d.fs < 0 {
		d.problem = fmt.Sprintf("the file system with %s is none of those given", d.name)
		if how == "file" {
			d.problem = fmt.Sprintf("which disk is the first that holds %s can't be told from here", what)
		}
		status = c.e.unknown(d.problem)
	}
	return status, c.s.set(c.at, variable, c.e.deviceValue(d))
}

// note remembers what a prediction takes for granted.
func (e *evaluator) note(s string) {
	for _, n := range e.notes {
		if n == s {
			return
		}
	}
	e.notes = append(e.notes, s)
}
