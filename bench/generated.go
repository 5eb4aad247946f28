package bench

import (
	"bytes"
	"fmt"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// Generated are logs that package eventlog writes, some of them changed afterwards,
// by what is special about each. They suffice to see every one of [Rules] at work.
func Generated() (map[string]*Input, error) {
	all := map[string]*Input{}
	var first error
	put := func(name string, log []byte, err error) *Input {
		if err != nil && first == nil {
			first = fmt.Errorf("make the log %q: %w", name, err)
		}
		all[name] = NewInput(log)
		return all[name]
	}
	written := func(name string, g *generator) *Input {
		log, err := g.bytes()
		return put(name, log, err)
	}
	changed := func(name string, g *generator, change func([]byte) []byte) {
		log, err := g.bytes()
		if err == nil {
			log = change(log)
		}
		put(name, log, err)
	}
	appended := func(name string, more ...byte) {
		changed(name, agile(), func(b []byte) []byte { return append(b, more...) })
	}

	sha1, sha256 := tpm.TaggedDigest{Alg: tpm.SHA1, Digest: make([]byte, 20)}, tpm.TaggedDigest{Alg: tpm.SHA256, Digest: make([]byte, 32)}
	log, err := Generate(100, twoBanks...)
	put("100 events in two banks", log, err)
	for _, alg := range []tpm.Alg{tpm.SHA384, tpm.SHA512, tpm.SHA3256} {
		log, err := Generate(10, alg)
		put("the one bank "+alg.String(), log, err)
	}

	written("one event in PCR 4", agile())

	// What the memory behind a log may hold.
	appended("zeros behind, as many as some records", make([]byte, 256)...)
	appended("seven zeros behind", make([]byte, 7)...)
	appended("ones behind", bytes.Repeat([]byte{0xff}, 256)...)

	// What is not extended, or not from zeros.
	written("an event of PCR 255", agile().add(255, eventlog.NoAction, "none"))
	written("an event of PCR 0xffffffff", agile().add(0xffffffff, eventlog.NoAction, "none"))
	written("an informative event among others", agile().add(4, eventlog.NoAction, "an informative event of usual length").add(4, eventlog.IPL, "second"))
	written("the TPM was started at locality 3", agile().add(0, eventlog.NoAction, "StartupLocality\x00\x03").add(0, eventlog.PostCode, "code"))
	written("a hardware root of trust", agile().add(0, eventlog.EFIHCRTMEvent, "HCRTM").add(0, eventlog.PostCode, "code"))
	written("a launch", agile().add(tpm.PCRCode, eventlog.Slaunch, "code"))
	written("markers of a launch", agile().add(17, eventlog.SlaunchStart, "").add(17, eventlog.Slaunch, "code").add(17, eventlog.SlaunchEnd, ""))
	written("PCR 20 without a launch", agile().add(20, eventlog.IPL, "extended by locality 2")).Launched = false

	// What leaves a bank without a measurement.
	written("an event in one bank of two", agile().addDigests(5, eventlog.IPL, "x", tpm.SumAll([]tpm.Alg{tpm.SHA256}, []byte("x"))))
	one := func(a tpm.Alg) tpm.TaggedDigest {
		return tpm.TaggedDigest{Alg: a, Digest: append([]byte{1}, make([]byte, a.Size()-1)...)}
	}
	written("a placeholder", agile().addDigests(18, eventlog.Slaunch, "", []tpm.TaggedDigest{one(tpm.SHA1), one(tpm.SHA256)}))

	// Other formats.
	sha1Only := []tpm.Alg{tpm.SHA1}
	tpm12 := func() *generator { return newGenerator(eventlog.Header{Format: eventlog.TCG12, Algs: sha1Only}) }
	written("TPM 1.2", tpm12().add(4, eventlog.IPL, "first"))
	written("TPM 1.2, locality first", tpm12().addDigests(0, eventlog.NoAction, "StartupLocality\x00\x03", []tpm.TaggedDigest{sha1}).add(0, eventlog.PostCode, "code"))
	written("TPM 1.2, an event of no register", tpm12().add(4, eventlog.IPL, "first").add(0xffffffff, eventlog.NoAction, "none"))
	written("a TXT event container", newGenerator(eventlog.Header{Format: eventlog.TXT12Container, Algs: sha1Only, Capacity: 512}).add(17, eventlog.TXTHashStart, "x"))
	written("TXT, one algorithm", newGenerator(eventlog.Header{Format: eventlog.TXTPerAlg, Algs: []tpm.Alg{tpm.SHA256}}).add(17, eventlog.TXTHashStart, "x"))
	written("Secure Kernel Loader, TPM 1.2", newGenerator(eventlog.Header{Format: eventlog.SKL12, Algs: sha1Only, Capacity: 512}).add(17, eventlog.Slaunch, "SKINIT"))
	skl := func() *generator {
		return newGenerator(eventlog.Header{Format: eventlog.CryptoAgile, Algs: twoBanks, SKL: true, Capacity: 4096}).add(17, eventlog.Slaunch, "SKINIT")
	}
	written("Secure Kernel Loader", skl())
	legacy := "Spec ID Event00\x00\x00\x00\x00\x00\x02\x01\x01\x00\x00"
	written("TPM 1.2 with a header", tpm12().addDigests(0, eventlog.NoAction, legacy, []tpm.TaggedDigest{sha1}).add(4, eventlog.IPL, "first"))

	// What an attacker may write.
	appended("an event without digests", rawEvent(4)...)
	appended("an event with two digests of one bank", rawEvent(4, sha1, sha1)...)
	appended("an event with a digest of a bank that is not declared", rawEvent(4, sha1, tpm.TaggedDigest{Alg: tpm.SHA384, Digest: make([]byte, 48)})...)
	appended("an event with more digests than banks", rawEvent(4, sha1, sha256, sha256)...)
	inSHA1 := newGenerator(eventlog.Header{Format: eventlog.CryptoAgile, Algs: twoBanks}).addDigests(4, eventlog.IPL, "first", tpm.SumAll(sha1Only, []byte("first")))
	changed("a bank declared twice", inSHA1, func(b []byte) []byte {
		copy(b[headerAlgs+4:], b[headerAlgs:headerAlgs+4])
		return b
	})
	changed("a bank declared with another length", agile(), func(b []byte) []byte {
		b[headerAlgs+2]++
		return b
	})
	changed("a header with another signature", agile(), func(b []byte) []byte {
		b[headerSignature+14] = '9'
		return b
	})
	changed("a header with a digest", agile(), func(b []byte) []byte {
		b[headerDigest] = 1
		return b
	})
	changed("an algorithm of more than 8 bits", agile(), nineBits)
	changed("an event behind the end that the log declares", skl(), func(b []byte) []byte {
		return append(b[:NewInput(b).end()], rawEvent(17, sha1, sha256)...)
	})
	return all, first
}

// nineBits makes 0x010b, which is no algorithm, of the id 0x000b in a log that has
// SHA-1 and SHA-256 as its banks.
func nineBits(log []byte) []byte {
	parsed, err := eventlog.Parse(log)
	if err != nil {
		return nil
	}
	offsets := []int{headerAlgs + 4}
	for i := range parsed.Events {
		offsets = append(offsets, parsed.Events[i].Offset+12+2+20)
	}
	for _, at := range offsets {
		le.PutUint16(log[at:], 0x010b)
	}
	return log
}
