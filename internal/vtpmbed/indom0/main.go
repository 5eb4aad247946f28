// Indom0 runs in a test machine's dom0. "boot" does what a boot loader that measures does to
// PCRs 8 and 9; "await SOCKET" waits until vtpmd answers.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm/device"
	"github.com/antievilmaid/aem/tpm2"
	"github.com/antievilmaid/aem/vtpm/admin"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == "boot":
		err = boot()
	case len(os.Args) == 3 && os.Args[1] == "await":
		err = await(os.Args[2])
	default:
		err = fmt.Errorf("it knows boot, and await SOCKET")
	}
	if err != nil {
		fmt.Println("indom0:", err)
		os.Exit(1)
	}
}

func boot() error {
	d, err := device.Open(device.Options{Wait: 10 * time.Second})
	if err != nil {
		return err
	}
	defer d.Close()
	chip := tpm2.New(d)
	banks, err := chip.ReadPCRs(tpm.PCRSet(8))
	if err != nil {
		return err
	}
	for _, p := range []tpm.PCR{8, 9} {
		if err := chip.Extend(p, tpm.SumAll(banks.Algs(), []byte("a boot loader's word"))); err != nil {
			return err
		}
	}
	return nil
}

func await(socket string) (err error) {
	c := admin.NewClient(socket)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if _, err = c.Status(context.Background()); err == nil {
			return nil
		}
	}
	return err
}
