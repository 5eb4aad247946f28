package drtm

import "fmt"

// Platform is the kind of dynamic launch.
type Platform uint8

// The platforms. The zero Platform is "not known".
const (
	// TXT is Intel's Trusted Execution Technology, in its "details and
	// authorities" mapping.
	TXT Platform = iota + 1
	// SKINIT is AMD's instruction of that name, with the Secure Kernel Loader.
	SKINIT
)

// String is "Intel TXT" or "AMD SKINIT".
func (p Platform) String() string {
	switch p {
	case TXT:
		return "Intel TXT"
	case SKINIT:
		return "AMD SKINIT"
	}
	return fmt.Sprintf("unknown launch platform %d", uint8(p))
}

// Name is the short name that command lines use: txt or skinit.
func (p Platform) Name() string {
	switch p {
	case TXT:
		return "txt"
	case SKINIT:
		return "skinit"
	}
	return "unknown"
}

// ParsePlatform is the inverse of Name.
func ParsePlatform(s string) (Platform, error) {
	switch s {
	case "txt":
		return TXT, nil
	case "skinit":
		return SKINIT, nil
	}
	return 0, fmt.Errorf("%q is no launch platform; there are txt and skinit", s)
}
