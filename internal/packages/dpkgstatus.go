package packages

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// debPackage is what dpkg's status file says about one package.
type debPackage struct {
	name, arch, version string
	state               string            // "installed", "half-configured", "config-files", ...
	same                bool              // its files carry the architecture in their name: Multi-Arch: same
	conffiles           map[string]string // checksum by path
}

// readStatus reads the status file and what dpkg has not yet written back into it.
func readStatus(t *tree) ([]debPackage, error) {
	b, err := t.read("/var/lib/dpkg/status")
	if err != nil {
		return nil, err
	}
	list := parseStatus(string(b))
	updates, err := t.names("/var/lib/dpkg/updates")
	if err != nil {
		return nil, err
	}
	updates = slices.DeleteFunc(updates, func(s string) bool { return strings.Trim(s, "0123456789") != "" })
	slices.Sort(updates)
	place := make(map[string]int, len(list))
	for i, p := range list {
		place[p.key()] = i
	}
	for _, name := range updates {
		b, err := t.read("/var/lib/dpkg/updates/" + name)
		if errors.Is(err, fs.ErrNotExist) { // dpkg has just written it back
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, p := range parseStatus(string(b)) {
			if i, ok := place[p.key()]; ok {
				list[i] = p
			} else {
				place[p.key()] = len(list)
				list = append(list, p)
			}
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("dpkg's status file names no package")
	}
	return list, nil
}

func (p debPackage) key() string { return p.name + ":" + p.arch }

// whole reports whether the files on the disk are those of the version. In between
// some are, and some are not.
func (p debPackage) whole() bool {
	return p.state == "installed" || p.state == "triggers-pending" || p.state == "triggers-awaited"
}

// parseStatus reads paragraphs of "Field: value" lines, in which a line that begins
// with a space continues the one before. Paragraphs without a package are left out.
func parseStatus(s string) []debPackage {
	var list []debPackage
	var p debPackage
	var field string
	end := func() {
		if validName(p.name) && validName(p.arch) {
			list = append(list, p)
		}
		p, field = debPackage{}, ""
	}
	for line := range strings.Lines(s) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.TrimSpace(line) == "":
			end()
			continue
		case line[0] == ' ' || line[0] == '\t':
			if field == "conffiles" {
				p.addConffile(strings.TrimSpace(line))
			}
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		field, value = strings.ToLower(name), strings.TrimSpace(value)
		switch field {
		case "package":
			p.name = value
		case "architecture":
			p.arch = value
		case "version":
			p.version = value
		case "status": // "install ok installed": what is wanted, a flag, what is
			if words := strings.Fields(value); len(words) == 3 {
				p.state = words[2]
			}
		case "multi-arch":
			p.same = value == "same"
		}
	}
	end()
	return list
}

// addConffile reads "/etc/file checksum", perhaps with a flag after it.
func (p *debPackage) addConffile(line string) {
	words := strings.Split(line, " ")
	if n := len(words); n > 2 && (words[n-1] == "obsolete" || words[n-1] == "remove-on-upgrade") {
		words = words[:n-1]
	}
	n := len(words) - 1
	if n < 1 || !isSum(words[n]) {
		return
	}
	if p.conffiles == nil {
		p.conffiles = map[string]string{}
	}
	p.conffiles[strings.Join(words[:n], " ")] = words[n]
}

// validName keeps names from becoming paths.
func validName(s string) bool {
	if s == "" || len(s) > 200 || s[0] == '.' || s[0] == '-' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-._") == ""
}

// isSum reports an MD5 sum as dpkg writes it.
func isSum(s string) bool { return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == "" }
