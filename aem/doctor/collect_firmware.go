package doctor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// secureBootVariable holds four bytes of attributes and one of value (UEFI 2.10,
// clause 3.3).
const secureBootVariable = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"

// Registers of the CPU.
const (
	msrPlatformID     = 0x17
	msrFeatureControl = 0x3a
	msrVMCR           = 0xc0010114
)

// firmware asks for what firmware and kernel show in files.
func (c *collector) firmware() {
	f := c.Firmware
	f.Maker, f.Model = c.line("sys/class/dmi/id/sys_vendor"), c.line("sys/class/dmi/id/product_name")
	f.BIOS, f.BIOSDate = c.line("sys/class/dmi/id/bios_version"), c.line("sys/class/dmi/id/bios_date")
	_, err := os.Stat(filepath.Join(c.Root, "sys/firmware/efi"))
	f.UEFI = err == nil
	if f.UEFI {
		b, err := c.read(secureBootVariable, maxText)
		if err == nil && len(b) != 5 {
			err = fmt.Errorf("the variable has %d bytes, not 5", len(b))
		}
		if err != nil {
			c.miss(itemSecureBoot, err)
		} else {
			on := b[4] == 1
			f.SecureBoot = &on
		}
	}
	c.lockdown()
	c.iommu()
	switch c.cpuField("vendor_id") {
	case vendorIntel:
		f.FeatureControl = c.msr(itemFeatureControl, msrFeatureControl)
		f.PlatformID = c.msr(itemPlatformID, msrPlatformID)
	case vendorAMD, vendorHygon:
		f.VMCR = c.msr(itemVMCR, msrVMCR)
	}
}

// lockdown is the word in brackets of the kernel's list, such as "none [integrity]
// confidentiality".
func (c *collector) lockdown() {
	b, err := c.read("sys/kernel/security/lockdown", maxText)
	if err != nil {
		c.miss(itemLockdown, err)
		return
	}
	_, rest, _ := strings.Cut(string(b), "[")
	c.Firmware.Lockdown, _, _ = strings.Cut(rest, "]")
}

// iommu looks for the tables with which the firmware announces IOMMUs, and for
// those that the kernel drives.
func (c *collector) iommu() {
	f := c.Firmware
	f.IOMMUs, f.Tables = []string{}, []string{}
	if list, err := os.ReadDir(filepath.Join(c.Root, "sys/class/iommu")); err == nil {
		for _, d := range list {
			f.IOMMUs = append(f.IOMMUs, d.Name())
		}
	}
	for _, name := range []string{"DMAR", "IVRS"} {
		if _, err := os.Stat(filepath.Join(c.Root, "sys/firmware/acpi/tables", name)); err == nil {
			f.Tables = append(f.Tables, name)
		}
	}
	slices.Sort(f.IOMMUs)
}

// msr reads a model-specific register of the first processor.
func (c *collector) msr(item string, number int64) *Hex {
	f, err := os.Open(filepath.Join(c.Root, "dev/cpu/0/msr"))
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w; load the kernel's module msr", err)
	}
	if err != nil {
		c.miss(item, reason(err))
		return nil
	}
	defer f.Close()
	b := make([]byte, 8)
	if _, err := f.ReadAt(b, number); err != nil {
		c.miss(item, reason(err))
		return nil
	}
	v := Hex(binary.LittleEndian.Uint64(b))
	return &v
}
