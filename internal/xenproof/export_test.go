package xenproof

import "os"

// The secrets of the story.
const (
	TheSecret = theSecret
	Sentence  = sentence
)

// Who is the vTPM of which each place must tell.
func Who() string { return (&Machine{guests: guests()}).guest("pvh").uuid.String() }

// Discreet looks for the secrets in what a story left, with its disk in a folder.
func Discreet(dir, consoles, xenstore, disk string) error {
	m := &Machine{dir: dir, guests: guests()}
	m.log.WriteString(consoles)
	m.xenstore.WriteString(xenstore)
	if err := os.WriteFile(m.path("disk"), []byte(disk), 0o600); err != nil {
		return err
	}
	return m.discreet()
}
