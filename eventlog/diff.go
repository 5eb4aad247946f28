package eventlog

import (
	"bytes"
	"fmt"

	"github.com/antievilmaid/aem/tpm"
)

// ChangeKind is how an event differs between two logs.
type ChangeKind uint8

// The kinds of change.
const (
	Changed ChangeKind = iota + 1 // another digest in its place
	Added                         // in the second log alone
	Removed                       // in the first log alone
	Moved                         // at another place among the PCR's events
)

// String is "changed", "added", "removed" or "moved".
func (k ChangeKind) String() string {
	switch k {
	case Changed:
		return "changed"
	case Added:
		return "added"
	case Removed:
		return "removed"
	case Moved:
		return "moved"
	}
	return fmt.Sprintf("change %d", uint8(k))
}

// Change is one difference between two logs.
type Change struct {
	Kind ChangeKind
	PCR  tpm.PCR
	// Index is the event's position among the PCR's extended events: in the second
	// log, or in the first for a removed event.
	Index         int
	Before, After *Event // nil where the event is added or removed
}

// Diff compares two logs, PCR by PCR, as far as they extend the PCRs of the set.
// Events are the same when they have the same digests in the banks that both
// have; their types and data are hearsay and serve only to pair a changed event
// with its predecessor. The changes come by ascending PCR and then by position,
// so the first is the first difference.
func Diff(before, after *Log, pcrs tpm.PCRs) []Change {
	var list []Change
	for p := range pcrs.All() {
		list = append(list, diffPCR(p, before.of(p), after.of(p))...)
	}
	return list
}

// of lists a PCR's extended events.
func (l *Log) of(p tpm.PCR) []*Event {
	var list []*Event
	for i := range l.Events {
		if e := &l.Events[i]; e.PCR == p && e.Extended() {
			list = append(list, e)
		}
	}
	return list
}

// same compares by digests alone, and needs one bank that both have.
func same(a, b *Event) bool {
	common := false
	for _, d := range a.Digests {
		if other := tpm.Find(b.Digests, d.Alg); other != nil {
			if !d.Digest.Equal(other) {
				return false
			}
			common = true
		}
	}
	return common
}

func diffPCR(p tpm.PCR, a, b []*Event) []Change {
	kept := align(a, b)
	var list []Change
	i, j := 0, 0
	for _, k := range append(kept, [2]int{len(a), len(b)}) {
		list = append(list, gap(p, a[i:k[0]], b[j:k[1]], i, j)...)
		i, j = k[0]+1, k[1]+1
	}
	return moves(list)
}

// maxTable bounds the table of align: two logs of 2000 events that differ throughout.
const maxTable = 4 << 20

// align returns the index pairs of a longest common subsequence.
func align(a, b []*Event) [][2]int {
	var pairs [][2]int
	start := 0
	for start < len(a) && start < len(b) && same(a[start], b[start]) {
		pairs = append(pairs, [2]int{start, start})
		start++
	}
	end := 0
	for end < len(a)-start && end < len(b)-start && same(a[len(a)-1-end], b[len(b)-1-end]) {
		end++
	}
	n, m := len(a)-start-end, len(b)-start-end
	if n > 0 && m > 0 && n*m <= maxTable {
		// best[i][j] is the length for a[start+i:] and b[start+j:].
		best := make([]int32, (n+1)*(m+1))
		at := func(i, j int) *int32 { return &best[i*(m+1)+j] }
		for i := n - 1; i >= 0; i-- {
			for j := m - 1; j >= 0; j-- {
				if same(a[start+i], b[start+j]) {
					*at(i, j) = *at(i+1, j+1) + 1
				} else {
					*at(i, j) = max(*at(i+1, j), *at(i, j+1))
				}
			}
		}
		for i, j := 0, 0; i < n && j < m; {
			switch {
			case same(a[start+i], b[start+j]):
				pairs = append(pairs, [2]int{start + i, start + j})
				i, j = i+1, j+1
			case *at(i+1, j) >= *at(i, j+1):
				i++
			default:
				j++
			}
		}
	}
	for ; end > 0; end-- {
		pairs = append(pairs, [2]int{len(a) - end, len(b) - end})
	}
	return pairs
}

// gap describes events between two that were kept. An event is taken for the
// changed form of the first one left that looks like it: same type and data, or
// at least the same type.
func gap(p tpm.PCR, a, b []*Event, i, j int) []Change {
	partner := make([]int, len(b)) // index into a, plus one
	taken := make([]bool, len(a))
	for _, alike := range []func(x, y *Event) bool{
		func(x, y *Event) bool { return x.Type == y.Type && bytes.Equal(x.Data, y.Data) },
		func(x, y *Event) bool { return x.Type == y.Type },
	} {
		from := 0
		for n, y := range b {
			if partner[n] != 0 {
				from = partner[n]
				continue
			}
			for k := from; k < len(a); k++ {
				if !taken[k] && alike(a[k], y) {
					partner[n], taken[k], from = k+1, true, k+1
					break
				}
			}
		}
	}
	var list []Change
	k := 0
	removed := func(until int) {
		for ; k < until; k++ {
			if !taken[k] {
				list = append(list, Change{Removed, p, i + k, a[k], nil})
			}
		}
	}
	for n, y := range b {
		if partner[n] == 0 {
			list = append(list, Change{Added, p, j + n, nil, y})
			continue
		}
		removed(partner[n] - 1)
		list = append(list, Change{Changed, p, j + n, a[partner[n]-1], y})
	}
	removed(len(a))
	return list
}

// moves joins the removal and the addition of the same event.
func moves(list []Change) []Change {
	gone := make([]bool, len(list))
	for n := range list {
		if list[n].Kind != Added {
			continue
		}
		for m := range list {
			if list[m].Kind == Removed && !gone[m] && same(list[m].Before, list[n].After) {
				list[n].Kind, list[n].Before, gone[m] = Moved, list[m].Before, true
				break
			}
		}
	}
	kept := list[:0]
	for n, c := range list {
		if !gone[n] {
			kept = append(kept, c)
		}
	}
	return kept
}
