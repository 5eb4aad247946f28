package drtm

// Target is a launch of something: what the CPU hashes, and all that is measured.
// The kinds are [LinuxLaunch], [XenLaunch] and [TbootLaunch].
type Target interface {
	// LaunchData is what the CPU hashes at locality 4, or nil where Measurements
	// says why there is no launch.
	LaunchData() []byte
	// Measurements are all steps, in order.
	Measurements() ([]Measurement, error)
}

// Module is a file that a boot loader hands to a hypervisor, with its command line.
type Module struct {
	Content []byte
	Line    string
}
