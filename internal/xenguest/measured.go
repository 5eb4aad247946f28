package main

import (
	"encoding/json"
	"os"

	"github.com/antievilmaid/aem/tpm"
	"github.com/antievilmaid/aem/tpm2"
)

// algs are all that a vTPM can have.
var algs = []tpm.Alg{tpm.SHA1, tpm.SHA256, tpm.SHA384, tpm.SHA512}

// digests prints a file's.
func digests(args []string) error {
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	list, err := tpm.SumReader(algs, f)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(list)
}

// hostPCRs prints the machine's own PCRs 17 and 18.
func hostPCRs([]string) error {
	c, err := openTPM("/dev/tpmrm0")
	if err != nil {
		return err
	}
	defer c.Close()
	banks, err := tpm2.New(c).ReadPCRs(tpm.PCRSet(tpm.PCRCode, tpm.PCRData))
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(banks)
}
