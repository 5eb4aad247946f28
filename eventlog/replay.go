package eventlog

import (
	"bytes"

	"github.com/antievilmaid/aem/tpm"
)

// signatureLocality begins the data of the informative event that says at which
// locality the TPM was started (TCG PFP, clause 10.4.5.3).
const signatureLocality = "StartupLocality\x00"

// startLocality is the byte with which PCR 0 starts: the locality of the TPM's
// start, or 4 where a hardware root of trust measured before it.
func (l *Log) startLocality() byte {
	hcrtm := byte(0)
	for i := range l.Events {
		e := &l.Events[i]
		if e.PCR != 0 {
			continue
		}
		if e.Type == NoAction && len(e.Data) == len(signatureLocality)+1 && bytes.HasPrefix(e.Data, []byte(signatureLocality)) {
			return e.Data[len(e.Data)-1]
		}
		if e.Type == EFIHCRTMEvent {
			hcrtm = 4
		}
	}
	return hcrtm
}

// Replay computes what the PCRs hold if the log is true: one bank for each
// declared algorithm that can be computed here, with all PCRs set. launched says
// whether PCRs 17 to 22 start as a dynamic launch leaves them, as zeros, or as
// ones. An event that lacks a bank's digest leaves that bank as it was.
func (l *Log) Replay(launched bool) tpm.Banks {
	count, total := 0, 0
	for _, a := range l.Algs {
		if a.available() {
			count, total = count+1, total+int(a.Size)
		}
	}
	banks := make(tpm.Banks, 0, count)
	all := make([]byte, tpm.NumPCRs*total)
	locality := l.startLocality()
	for _, a := range l.Algs {
		if !a.available() {
			continue
		}
		alg, size := a.Alg, int(a.Size)
		banks = append(banks, tpm.Bank{Alg: alg})
		bank := &banks[len(banks)-1]
		values := all[:tpm.NumPCRs*size]
		all = all[len(values):]
		for p := range tpm.PCR(tpm.NumPCRs) {
			v := values[int(p)*size : (int(p)+1)*size : (int(p)+1)*size]
			if p.Dynamic() && !launched {
				for i := range v {
					v[i] = 0xff
				}
			}
			bank.Values[p] = v
		}
		bank.Values[0][size-1] = locality
		h := alg.New()
		for i := range l.Events {
			e := &l.Events[i]
			d := tpm.Find(e.Digests, alg)
			if d == nil || !e.Extended() {
				continue
			}
			v := bank.Values[e.PCR]
			h.Reset()
			h.Write(v)
			h.Write(d)
			h.Sum(v[:0])
		}
	}
	return banks
}

// Launched reports whether the log tells of a dynamic launch: some event extends a
// PCR that only a launch sets to zero. Whether there was one, the TPM must say.
func (l *Log) Launched() bool {
	for i := range l.Events {
		if e := &l.Events[i]; e.Extended() && e.PCR.Dynamic() {
			return true
		}
	}
	return false
}

// RuntimeRegisters reports whether the indices of the log are those of a
// confidential guest's registers and not PCRs (TDX, CCEL: 0 is MRTD, 1 to 4 are
// RTMR 0 to 3). The format does not say so; such logs have SHA-384 alone and no
// index above 4, while every firmware's log for a TPM has separators up to PCR 7.
func (l *Log) RuntimeRegisters() bool {
	if l.Format != CryptoAgile || len(l.Algs) != 1 || l.Algs[0].Alg != tpm.SHA384 || len(l.Events) == 0 {
		return false
	}
	for i := range l.Events {
		if l.Events[i].PCR > 4 {
			return false
		}
	}
	return true
}
