package eventlog

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"

	"github.com/antievilmaid/aem/internal/wire"
)

// Variable is a UEFI variable that was measured (UEFI_VARIABLE_DATA).
type Variable struct {
	Vendor GUID
	Name   string
	Value  Raw
	// Meaning is the value decoded, where its name says how; nil elsewhere.
	Meaning fmt.Stringer `json:",omitempty"`
	// Trailing is what follows the value: further variables in one event, or bytes
	// that shim counted twice.
	Trailing Raw `json:",omitempty"`
}

func decodeVariable(t Type, b []byte) Data {
	r := wire.NewReader(b)
	d := Variable{Vendor: readGUID(&r)}
	name, value := r.U64(), r.U64()
	d.Name = readUTF16(&r, name)
	if r.Short() || value > uint64(r.Left()) {
		return decodeText(b)
	}
	d.Value = r.Bytes(uint32(value))
	d.Trailing = r.Rest()
	d.Meaning = meaning(t, d.Name, d.Value)
	return d
}

// AppendTo appends the event's bytes.
func (d Variable) AppendTo(b []byte) []byte {
	name := appendUTF16(nil, d.Name)
	b = le.AppendUint64(append(b, d.Vendor[:]...), uint64(len(name)/2))
	b = le.AppendUint64(b, uint64(len(d.Value)))
	return append(append(append(b, name...), d.Value...), d.Trailing...)
}

// String is the variable's name and what it says.
func (d Variable) String() string {
	name := Printable([]byte(d.Name))
	if d.Meaning != nil {
		return name + ": " + d.Meaning.String()
	}
	if len(d.Value) == 0 {
		return name + " is not set"
	}
	return name + ": " + d.Value.String()
}

// meaning decodes the values whose names are standard.
func meaning(t Type, name string, b []byte) fmt.Stringer {
	switch {
	case len(b) == 0:
		return nil
	case t == EFIVariableAuthority:
		return decodeAuthority(name, b)
	case name == "PK" || name == "KEK" || name == "db" || name == "dbx" || name == "dbt" || name == "dbr":
		return decodeSignatures(b)
	case name == "BootOrder" || name == "DriverOrder":
		return decodeOrder(b)
	case len(name) == 8 && (strings.HasPrefix(name, "Boot") || strings.HasPrefix(name, "SysP")) || len(name) == 10 && strings.HasPrefix(name, "Driver"):
		return decodeLoadOption(b)
	case len(b) == 1 && b[0] < 2:
		return Switch(b[0] == 1)
	}
	return nil
}

// Switch is a variable that is on or off, such as SecureBoot.
type Switch bool

// String is "on" or "off".
func (s Switch) String() string {
	if s {
		return "on"
	}
	return "off"
}

// Order is the order in which boot options are tried.
type Order []uint16

func decodeOrder(b []byte) fmt.Stringer {
	if len(b)%2 != 0 {
		return nil
	}
	var o Order
	for ; len(b) > 0; b = b[2:] {
		o = append(o, le.Uint16(b))
	}
	return o
}

// String lists the options' numbers.
func (o Order) String() string {
	var list []string
	for _, n := range o {
		list = append(list, fmt.Sprintf("%04X", n))
	}
	return strings.Join(list, ", ")
}

// LoadOption is a boot option (EFI_LOAD_OPTION, UEFI clause 3.1.3).
type LoadOption struct {
	Attributes  uint32
	Description string
	Path        DevicePath
	Optional    Raw
}

func decodeLoadOption(b []byte) fmt.Stringer {
	r := wire.NewReader(b)
	o := LoadOption{Attributes: r.U32()}
	n := r.U16()
	o.Description = readText16(&r)
	path := r.Bytes(uint32(n))
	if r.Short() {
		return nil
	}
	var ok bool
	if o.Path, ok = decodePath(path); !ok {
		return nil
	}
	o.Optional = r.Rest()
	return o
}

// String is the option's name and where it leads.
func (o LoadOption) String() string {
	return fmt.Sprintf("%s, %s", Printable([]byte(o.Description)), o.Path)
}

// Signatures are the lists in a variable of secure boot (EFI_SIGNATURE_LIST, UEFI clause 32.4.1).
type Signatures []SignatureList

// SignatureList holds entries of one kind and one size.
type SignatureList struct {
	Kind    GUID
	Header  Raw `json:",omitempty"`
	Entries []Signature
}

// Signature is a certificate or a digest, and who put it there.
type Signature struct {
	Owner GUID
	Data  Raw
}

// String is the certificate's subject, or the beginning of a digest.
func (s Signature) String() string {
	if name := commonName(s.Data); name != "" {
		return Printable([]byte(name))
	}
	return s.Data.String()
}

// commonName reads the subject of an X.509 certificate (RFC 5280, clause 4.1), empty
// where there is none. Nothing else of the certificate matters here, so package x509,
// and all the cryptography that comes with it, is not put into an initramfs for it.
func commonName(der []byte) string {
	var c struct {
		TBS struct {
			Version                             asn1.RawValue `asn1:"optional,explicit,tag:0"`
			Serial, Algorithm, Issuer, Validity asn1.RawValue
			Subject                             pkix.RDNSequence
		}
	}
	if _, err := asn1.Unmarshal(der, &c); err != nil {
		return ""
	}
	var subject pkix.Name
	subject.FillFromRDNSequence(&c.TBS.Subject)
	return subject.CommonName
}

func decodeSignatures(b []byte) fmt.Stringer {
	r := wire.NewReader(b)
	var all Signatures
	for r.Left() > 0 {
		l := SignatureList{Kind: readGUID(&r)}
		total, header, size := uint64(r.U32()), uint64(r.U32()), uint64(r.U32())
		if r.Short() || size <= 16 || total < 28+header || (total-28-header)%size != 0 || total-28 > uint64(r.Left()) {
			return nil
		}
		l.Header = r.Bytes(uint32(header))
		for range (total - 28 - header) / size {
			l.Entries = append(l.Entries, Signature{readGUID(&r), r.Bytes(uint32(size - 16))})
		}
		all = append(all, l)
	}
	return all
}

// String names certificates and counts digests.
func (s Signatures) String() string {
	var parts []string
	digests := 0
	for _, l := range s {
		for _, e := range l.Entries {
			if l.Kind.Name() == "X.509" {
				parts = append(parts, e.String())
				continue
			}
			digests++
		}
	}
	if digests > 0 {
		parts = append(parts, fmt.Sprintf("%d digests", digests))
	}
	return strings.Join(parts, "; ")
}

// decodeAuthority reads what allowed an image to run: an entry of the image
// security database, or one of shim's texts and switches.
func decodeAuthority(name string, b []byte) fmt.Stringer {
	switch {
	case strings.HasPrefix(name, "Sbat") || strings.HasPrefix(name, "Mok") && len(b) > 1 && isText(b):
		if isText(b) {
			return Text(b)
		}
	case len(b) == 1 && b[0] < 2:
		return Switch(b[0] == 1)
	case len(b) > 1 && b[0] == 0x30: // a certificate without an owner, as shim writes
		return Signature{Data: b}
	case len(b) > 16:
		r := wire.NewReader(b)
		return Signature{readGUID(&r), r.Rest()}
	}
	return nil
}

// ImageLoad is a program that the firmware loaded (UEFI_IMAGE_LOAD_EVENT). The
// event's digest is the program's Authenticode digest, not that of its file.
type ImageLoad struct {
	Address, Length, LinkTimeAddress uint64
	Path                             DevicePath
	Wide                             bool // of a firmware with words of 64 bits
	Trailing                         Raw  `json:",omitempty"` // shim counts some paths short
}

func decodeImage(b []byte) Data {
	for _, wide := range []bool{true, false} {
		r := wire.NewReader(b)
		d := ImageLoad{Address: r.U64(), Length: uintn(&r, wide), LinkTimeAddress: uintn(&r, wide), Wide: wide}
		n := uintn(&r, wide)
		if r.Short() || n > uint64(r.Left()) {
			continue
		}
		var ok bool
		if d.Path, ok = decodePath(r.Bytes(uint32(n))); ok {
			d.Trailing = r.Rest()
			return d
		}
	}
	return nil
}

// AppendTo appends the event's bytes.
func (d ImageLoad) AppendTo(b []byte) []byte {
	b = le.AppendUint64(b, d.Address)
	b = appendUintn(appendUintn(b, d.Length, d.Wide), d.LinkTimeAddress, d.Wide)
	path := d.Path.AppendTo(nil)
	return append(append(appendUintn(b, uint64(len(path)), d.Wide), path...), d.Trailing...)
}

// String says what was loaded.
func (d ImageLoad) String() string {
	if len(d.Path) == 0 {
		return fmt.Sprintf("a program of %d bytes", d.Length)
	}
	return d.Path.String()
}
