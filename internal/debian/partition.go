package debian

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
)

const sector = 512

// place is a partition as qemu-img is told of it: a range of the bytes that the
// guest sees, whatever overlays they lie in. The range comes from the partition
// table (UEFI specification, clauses 5.3.2 and 5.3.3), because a test may have
// changed that.
func (d *Disk) place(p Partition) (string, error) {
	dir, err := os.MkdirTemp("", "aem-gpt-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "gpt")
	const sectors = 34 // the table's usual length: boot sector, header, 128 entries
	if err := run(context.Background(), "qemu-img", "dd", "-f", "qcow2", "-O", "raw",
		fmt.Sprintf("bs=%d", sector), fmt.Sprintf("count=%d", sectors), "if="+d.Path, "of="+file); err != nil {
		return "", fmt.Errorf("read the partition table: %w", err)
	}
	table, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	const header, entries, entrySize = sector, 2 * sector, 128
	if len(table) < sectors*sector || string(table[header:header+8]) != "EFI PART" {
		return "", fmt.Errorf("%s has no GUID partition table", filepath.Base(d.Path))
	}
	if p < 1 || p > 128 {
		return "", fmt.Errorf("there is no partition %d", p)
	}
	entry := table[entries+(int(p)-1)*entrySize:][:entrySize]
	first, last := binary.LittleEndian.Uint64(entry[32:]), binary.LittleEndian.Uint64(entry[40:])
	if first == 0 || last < first || last > 1<<32 {
		return "", fmt.Errorf("there is no partition %d", p)
	}
	return fmt.Sprintf("driver=raw,offset=%d,size=%d,file.driver=qcow2,file.file.driver=file,file.file.filename=%s",
		first*sector, (last-first+1)*sector, comma(d.Path)), nil
}
