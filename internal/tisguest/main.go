// Tisguest runs in a test guest, after a launch: it takes the TPM from its driver,
// extends PCR 17 at a locality through the registers, gives the TPM back, and writes
// as one line of JSON what it saw at each step.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/device"
	"github.com/antievilmaid/aem/tpm/tis"
	"github.com/antievilmaid/aem/tpm12"
	"github.com/antievilmaid/aem/tpm2"
)

// report is what was seen. Each PCR is 17, in the first bank.
type report struct {
	Path, PathAfter string            // the kernel's TPM before and after
	Alg             string            // the bank
	Before          tpm.Digest        // by the kernel's driver
	Claimed         string            // the error of mapping what the driver has
	Locality0       string            // the error of an extend through the driver
	Opened          string            // the error of opening the registers
	Kind            string            // the interface
	Extended        string            // the error of an extend through the registers
	Seen            tpm.Digest        // through the registers, after that
	After           tpm.Digest        // by the driver when it is bound again
	Nodes           map[string]string // TPMs in sysfs at the end, and their drivers
}

func main() {
	var r report
	if err := r.fill(os.Args[1]); err != nil {
		fmt.Println("tisguest:", err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(r)
}

// chip is what both families can do.
type chip interface {
	ReadPCRs(tpm.PCRs) (tpm.Banks, error)
	Extend(tpm.PCR, []tpm.TaggedDigest) error
}

func chipOf(d *device.Device) chip {
	if d.Version == tpm.V12 {
		return tpm12.New(d)
	}
	return tpm2.New(d)
}

func (r *report) fill(locality string) error {
	d, err := device.Open(device.Options{})
	if err != nil {
		return err
	}
	r.Path = d.Path
	banks, err := chipOf(d).ReadPCRs(tpm.PCRSet(tpm.PCRCode))
	if err != nil {
		return err
	}
	r.Alg, r.Before = banks[0].Alg.String(), banks[0].Values[tpm.PCRCode]
	var digests []tpm.TaggedDigest
	for _, b := range banks {
		digests = append(digests, tpm.TaggedDigest{Alg: b.Alg, Digest: bytes.Repeat([]byte{0x5a}, b.Alg.Size())})
	}
	r.Locality0 = text(chipOf(d).Extend(tpm.PCRCode, digests))

	// While it is open, it must not be taken; then, without sysfs, nothing is.
	if _, err := tis.Unbind("/"); err == nil {
		return fmt.Errorf("the TPM was taken from its driver while it was in use")
	} else if !strings.Contains(err.Error(), "tisguest") {
		return err
	}
	if err := d.Close(); err != nil {
		return err
	}
	if r.Claimed, err = claimed(); err != nil {
		return err
	}

	if d, err = device.Open(device.Options{Spec: "tis:" + locality}); err != nil {
		r.Opened = text(err)
	} else {
		r.Kind = d.Channel.(*tis.TPM).Kind.String()
		r.Extended = text(chipOf(d).Extend(tpm.PCRCode, digests))
		if r.Seen, err = pcr(d); err != nil {
			return err
		}
		if err := d.Close(); err != nil {
			return err
		}
	}

	if d, err = device.Open(device.Options{}); err != nil {
		return err
	}
	defer d.Close()
	r.PathAfter = d.Path
	if r.After, err = pcr(d); err != nil {
		return err
	}
	chips, _ := filepath.Glob("/sys/class/tpm/tpm*")
	r.Nodes = map[string]string{}
	for _, c := range chips {
		driver, _ := filepath.EvalSymlinks(filepath.Join(c, "device/driver"))
		r.Nodes[filepath.Base(c)] = filepath.Base(driver)
	}
	return nil
}

func pcr(d *device.Device) (tpm.Digest, error) {
	banks, err := chipOf(d).ReadPCRs(tpm.PCRSet(tpm.PCRCode))
	if err != nil {
		return nil, err
	}
	return banks[0].Values[tpm.PCRCode], nil
}

// claimed maps the registers of a TPM that its driver has.
func claimed() (string, error) {
	root, err := os.MkdirTemp("/run", "root-")
	if err != nil {
		return "", err
	}
	for _, name := range []string{"dev/mem", "proc/iomem"} {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o700); err != nil {
			return "", err
		}
		if err := os.Symlink("/"+name, filepath.Join(root, name)); err != nil {
			return "", err
		}
	}
	t, err := tis.Open(context.Background(), tis.Options{Root: root})
	if err == nil {
		t.Close()
	}
	return text(err), nil
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
