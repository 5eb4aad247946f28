package eventlog

import (
	"fmt"
	"strings"

	"github.com/antievilmaid/aem/internal/wire"
)

// GPT is a disk's partition table that was measured (UEFI_GPT_DATA): the header,
// and of the entries those that are in use.
type GPT struct {
	Header     Raw // EFI_PARTITION_TABLE_HEADER, 92 bytes
	Disk       GUID
	Partitions []Partition
}

// Partition is an entry of the table (UEFI clause 5.3.3).
type Partition struct {
	Kind, ID    GUID
	First, Last uint64 // in blocks
	Attributes  uint64
	Name        string
}

const (
	gptHeader = 92
	gptEntry  = 128
	gptName   = 72
)

func decodeGPT(b []byte) Data {
	r := wire.NewReader(b)
	d := GPT{Header: r.Bytes(gptHeader)}
	n := r.U64()
	if r.Short() || n*gptEntry != uint64(r.Left()) || n > uint64(r.Left()) {
		return nil
	}
	copy(d.Disk[:], d.Header[56:])
	for range n {
		p := Partition{Kind: readGUID(&r), ID: readGUID(&r), First: r.U64(), Last: r.U64(), Attributes: r.U64()}
		p.Name = strings.TrimRight(readUTF16(&r, gptName/2), "\x00")
		d.Partitions = append(d.Partitions, p)
	}
	return d
}

// AppendTo appends the event's bytes.
func (d GPT) AppendTo(b []byte) []byte {
	b = le.AppendUint64(append(b, d.Header...), uint64(len(d.Partitions)))
	for _, p := range d.Partitions {
		b = append(append(b, p.Kind[:]...), p.ID[:]...)
		b = le.AppendUint64(le.AppendUint64(le.AppendUint64(b, p.First), p.Last), p.Attributes)
		name := appendUTF16(nil, p.Name)
		b = append(b, name...)
		b = append(b, make([]byte, max(0, gptName-len(name)))...)
	}
	return b
}

// String names the disk and its partitions.
func (d GPT) String() string {
	var list []string
	for i, p := range d.Partitions {
		name := Printable([]byte(p.Name))
		if name == "" {
			name = p.Kind.Name()
		}
		list = append(list, fmt.Sprintf("%d %s", i+1, name))
	}
	return fmt.Sprintf("partitions of disk %s: %s", d.Disk, strings.Join(list, ", "))
}
