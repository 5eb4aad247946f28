package stage1

// For the tests of what the kernel and u-root's loader are given.
var (
	MemoryFile   = memoryFile
	HandOver     = handOver
	AddModules   = addModules
	LoadSegments = loadSegments
)
