package bootentry

import "strings"

// compareNVR compares two names as name-version-release (split_cmp).
func compareNVR(a, b string) int {
	an, av, ar := splitNVR(a)
	bn, bv, br := splitNVR(b)
	for _, pair := range [][2]string{{an, bn}, {av, bv}, {ar, br}} {
		if r := compareVersions(pair[0], pair[1]); r != 0 {
			return r
		}
	}
	return 0
}

// splitNVR is split_package_string: what is missing is missing from the right.
func splitNVR(s string) (name, version, release string) {
	var parts []string
	for range 2 {
		i := strings.LastIndexByte(s, '-')
		if i < 0 {
			break
		}
		parts = append([]string{s[i+1:]}, parts...)
		s = s[:i]
	}
	parts = append([]string{s}, parts...)
	parts = append(parts, "", "")
	return parts[0], parts[1], parts[2]
}

// compareVersions is vercmp: rpm's comparison, for ~ and + too.
func compareVersions(a, b string) int {
	if a == b {
		return 0
	}
	other := func(r byte) bool { return !isAlpha(r) && !isDigit(r) && r != '~' && r != '+' }
	for a != "" || b != "" {
		for a != "" && other(a[0]) {
			a = a[1:]
		}
		for b != "" && other(b[0]) {
			b = b[1:]
		}
		at, bt := strings.HasPrefix(a, "~"), strings.HasPrefix(b, "~")
		ap, bp := strings.HasPrefix(a, "+"), strings.HasPrefix(b, "+")
		switch {
		case at && bt, ap && bp:
			a, b = a[1:], b[1:]
			continue
		case at:
			return -1
		case bt:
			return 1
		case (ap || bp) && a == "":
			return -1
		case (ap || bp) && b == "":
			return 1
		case bp:
			return 1
		case ap:
			return -1
		}
		if a == "" || b == "" {
			break
		}
		kind := isAlpha
		numeric := isDigit(a[0])
		if numeric {
			kind = isDigit
		}
		x, y := span(a, kind), span(b, kind)
		if y == "" { // numbers are newer than letters
			if numeric {
				return 1
			}
			return -1
		}
		a, b = a[len(x):], b[len(y):]
		if numeric {
			x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
			if len(x) != len(y) {
				return sign(len(x) - len(y))
			}
		}
		if r := strings.Compare(x, y); r != 0 {
			return r
		}
	}
	return sign(len(a) - len(b))
}

func sign(n int) int {
	switch {
	case n < 0:
		return -1
	case n > 0:
		return 1
	}
	return 0
}

func span(s string, kind func(byte) bool) string {
	n := 0
	for n < len(s) && kind(s[n]) {
		n++
	}
	return s[:n]
}
