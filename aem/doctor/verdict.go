package doctor

import (
	"fmt"
	"strings"

	"github.com/antievilmaid/aem/drtm"
)

// Verdict sums a table up.
type Verdict struct {
	// Platform is the kind of launch that the machine can make, or could after what
	// Rows name is mended. Zero: it can make none.
	Platform drtm.Platform `json:"-"`
	Way      string        `json:"way"` // "txt", "skinit", "none" or "unknown"
	// State is Good or Warning where the launch is possible, Bad where it is not, and
	// Unknown where the evidence does not tell.
	State State    `json:"state"`
	Rows  []string `json:"rows,omitempty"` // the names of the rows that decided
	Text  string   `json:"text"`
}

// nature are the rows that no setting changes: a machine that fails them never makes
// a launch of that kind.
var nature = map[drtm.Platform]string{drtm.TXT: RowSMX, drtm.SKINIT: RowSKINIT}

// Judge says whether the machine can make a dynamic launch.
func Judge(records []Record) Verdict {
	var best *Verdict
	candidates := 0
	for _, p := range []drtm.Platform{drtm.TXT, drtm.SKINIT} {
		r := Find(records, nature[p])
		if r == nil || r.State == NotApplicable {
			continue
		}
		candidates++
		v := judge(records, p)
		if best == nil || rank[v.State] > rank[best.State] {
			best = &v
		}
	}
	if best == nil {
		return Verdict{Way: "none", State: Bad, Text: "This machine can't make a dynamic launch."}
	}
	if candidates > 1 && best.State == Unknown {
		// Not even the CPU's maker is known.
		return Verdict{Way: "unknown", Rows: best.Rows, Text: "Whether this machine can make a dynamic launch is not known."}
	}
	return *best
}

// rank orders the verdicts, best last.
var rank = map[State]int{Bad: 0, Unknown: 1, Warning: 2, Good: 3}

// judge says whether it can make one of a kind: the worst of the required rows
// decides, and a warning anywhere is told.
func judge(records []Record, p drtm.Platform) Verdict {
	rows := map[State][]string{}
	for _, r := range records {
		switch {
		case r.Way != "" && r.Way != way(p) || r.State == Good || r.State == NotApplicable:
		case r.State != Bad && (r.Name == RowLaunch || r.Name == RowLog):
			// A boot without a launch says nothing of what the machine could do.
		case r.Required || r.State == Warning:
			rows[r.State] = append(rows[r.State], r.Name)
		case r.State == Bad:
			// It does not stand in the way, but deserves attention.
			rows[Warning] = append(rows[Warning], r.Name)
		}
	}
	v := Verdict{Platform: p, Way: way(p)}
	for _, s := range []State{Bad, Unknown, Warning} {
		if len(rows[s]) > 0 {
			v.State, v.Rows = s, rows[s]
			break
		}
		v.State = Good
	}
	list := strings.Join(v.Rows, ", ")
	switch {
	case v.State == Bad && (Find(records, RowMachine).bad() || Find(records, nature[p]).bad()):
		return Verdict{Way: "none", State: Bad, Rows: v.Rows, Text: "This machine can't make a dynamic launch: " + list + "."}
	case v.State == Bad:
		v.Text = fmt.Sprintf("This machine can't make a launch by %s as it is. Look at: %s.", p, list)
	case v.State == Unknown:
		v.Text = fmt.Sprintf("Whether this machine can make a launch by %s is not known. Look at: %s.", p, list)
	case v.State == Warning:
		v.Text = fmt.Sprintf("This machine can make a launch by %s. Look at: %s.", p, list)
	default:
		v.Text = fmt.Sprintf("This machine can make a launch by %s.", p)
	}
	return v
}

func (r *Record) bad() bool { return r != nil && r.State == Bad }
