package packages

import "time"

// ParseAll gives one text to every parser of dpkg's and apt's records and returns the
// names and sums that they found, and the times of changes.
func ParseAll(s string) (names, sums []string, when []time.Time) {
	forAll := map[string]bool{}
	for _, p := range parseStatus(s) {
		names = append(names, p.name, p.arch)
		for _, sum := range p.conffiles {
			sums = append(sums, sum)
		}
		forAll[p.name] = p.arch == "all"
	}
	for _, sum := range parseSums(s) {
		sums = append(sums, sum)
	}
	parseDiversions(s)
	for _, c := range join(changes(parseLog(s, time.UTC)), parseHistory(s, time.UTC), forAll) {
		when = append(when, c.When)
	}
	return names, sums, when
}

// OpenRPM answers from outputs of rpm that were recorded.
func OpenRPM(root string, run func(args ...string) ([]byte, error)) (Database, error) {
	t, err := openTree(root)
	if err != nil {
		return nil, err
	}
	return openRPM(t, run)
}

// ParseRPM returns the names of packages and of files in rpm's output.
func ParseRPM(s string) (names, files []string) {
	for _, p := range parseRPM(s) {
		names = append(names, p.name)
		for _, f := range p.files {
			files = append(files, f.path)
		}
	}
	return names, files
}
