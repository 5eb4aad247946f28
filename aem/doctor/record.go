package doctor

import (
	"fmt"
	"slices"

	"github.com/antievilmaid/aem/drtm"
)

// Record is one row of the doctor's table.
type Record struct {
	// Name says what was looked at. Names are unique in a table and do not change:
	// programs may pick rows by them.
	Name string `json:"name"`
	// Way is the kind of launch that the row matters for, "txt" or "skinit", or
	// empty where it matters for both.
	Way string `json:"way,omitempty"`
	// Required says that no launch, or no proof after it, is possible where the
	// state is Bad.
	Required bool   `json:"required"`
	Chapter  string `json:"chapter"` // the specification and the chapter that define it
	State    State  `json:"state"`
	Text     string `json:"text"`             // what was found, in words
	Advice   string `json:"advice,omitempty"` // what the owner can do
}

// State is what a row says.
type State uint8

// The states. The zero State is Unknown: what nobody looked at is not good.
const (
	Unknown State = iota // it could not be read
	Good
	Warning       // it works, and something about it deserves attention
	Bad           // it is missing, wrong or switched off
	NotApplicable // the question does not arise on this machine
)

var stateNames = []string{Unknown: "unknown", Good: "good", Warning: "warning", Bad: "bad", NotApplicable: "not applicable"}

// String is the state in a word or two, as in JSON.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// MarshalText writes the state as String does.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (s *State) UnmarshalText(b []byte) error {
	i := slices.Index(stateNames, string(b))
	if i < 0 {
		return fmt.Errorf("%q is no state of a row", b)
	}
	*s = State(i)
	return nil
}

// Find returns the row of a name, or nil.
func Find(records []Record, name string) *Record {
	for i := range records {
		if records[i].Name == name {
			return &records[i]
		}
	}
	return nil
}

// way is the value of Record.Way for a platform.
func way(p drtm.Platform) string { return p.Name() }
