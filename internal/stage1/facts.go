package stage1

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/antievilmaid/aem/drtm"
	"github.com/antievilmaid/aem/drtm/launch"
	"github.com/antievilmaid/aem/tpm"
)

// Where kernels show what is measured of the machine.
const (
	cpuInfo    = "/proc/cpuinfo"
	dmiEntry   = "/sys/firmware/dmi/tables/smbios_entry_point"
	dmiTable   = "/sys/firmware/dmi/tables/DMI"
	maxTables  = 1 << 20
	maxCPUInfo = 16 << 20
)

// facts are what a description wants measured beside what it starts. They are read
// when they are hashed.
func facts(m launch.Measure, at Place) []drtm.Fact {
	var l []drtm.Fact
	for _, path := range m.Files {
		l = append(l, drtm.Fact{Kind: drtm.FactFile, Name: path, Sum: func(a []tpm.Alg) ([]tpm.TaggedDigest, error) {
			return sumFile(a, at, path, 0)
		}})
	}
	for _, path := range m.Devices {
		l = append(l, drtm.Fact{Kind: drtm.FactDevice, Name: path, Sum: func(a []tpm.Alg) ([]tpm.TaggedDigest, error) {
			return sumFile(a, at, path, os.ModeDevice)
		}})
	}
	if m.CPU {
		l = append(l, drtm.Fact{Kind: drtm.FactCPU, Sum: func(a []tpm.Alg) ([]tpm.TaggedDigest, error) { return sumCPU(a, at) }})
	}
	if m.SMBIOS {
		l = append(l, drtm.Fact{Kind: drtm.FactSMBIOS, Sum: func(a []tpm.Alg) ([]tpm.TaggedDigest, error) { return sumSMBIOS(a, at) }})
	}
	return l
}

// sumFile hashes a file, or a block device, in one pass: a file that changes
// meanwhile has one digest in all banks all the same.
func sumFile(algs []tpm.Alg, at Place, path string, want os.FileMode) ([]tpm.TaggedDigest, error) {
	path, err := at(path)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Type() != want {
		if want == 0 {
			return nil, errors.New("this is no regular file")
		}
		return nil, errors.New("this is no block device")
	}
	return tpm.SumReader(algs, f)
}

// cpuFields identify a CPU and its microcode. The others depend on the kernel, the
// load or the number of the core.
var cpuFields = []string{"vendor_id", "cpu family", "model", "model name", "stepping", "microcode"}

// sumCPU hashes what CPUID says of the first CPU, as the kernel prints it: the lines of
// cpuFields, each "name: value" and a newline.
func sumCPU(algs []tpm.Alg, at Place) ([]tpm.TaggedDigest, error) {
	b, err := readSmall(at, cpuInfo, maxCPUInfo)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	for line := range strings.Lines(string(b)) {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			break // an empty line ends the first CPU
		}
		if name = strings.TrimSpace(name); slices.Contains(cpuFields, name) {
			fmt.Fprintf(&text, "%s: %s\n", name, strings.TrimSpace(value))
		}
	}
	if text.Len() == 0 {
		return nil, fmt.Errorf("%s does not say what CPU this is", cpuInfo)
	}
	return tpm.SumAll(algs, text.Bytes()), nil
}

// sumSMBIOS hashes the firmware's tables: the entry point and then the structures.
func sumSMBIOS(algs []tpm.Alg, at Place) ([]tpm.TaggedDigest, error) {
	var all []byte
	for _, path := range []string{dmiEntry, dmiTable} {
		b, err := readSmall(at, path, maxTables)
		if err != nil {
			return nil, err
		}
		all = append(all, b...)
	}
	return tpm.SumAll(algs, all), nil
}

func readSmall(at Place, path string, limit int) ([]byte, error) {
	path, err := at(path)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if err == nil && len(b) > limit {
		err = fmt.Errorf("%s is longer than any machine's", path)
	}
	return b, err
}
