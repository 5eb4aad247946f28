package ima

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/antievilmaid/aem/tpm"
)

var le = binary.LittleEndian

// Entry is one measurement.
type Entry struct {
	PCR      tpm.PCR
	Digest   tpm.Digest // of the template's data, as the list has it; zeros for a violation
	Template string     // a template's name, or its format string
	// Data is the template's data, the fields with their lengths; for the template
	// "ima" it is what the digest covers. It is nil where a text does not give it all.
	Data   []byte
	Fields []Field
	Offset int64 // of the entry in the list
}

// Field is one part of an entry, by the letters of a format string.
type Field struct {
	Kind  string // "d-ng", "n-ng", "sig", ...
	Value []byte // without its length
}

// formats are the templates that the kernel names.
var formats = map[string]string{
	"ima": "d|n", "ima-ng": "d-ng|n-ng", "ima-ngv2": "d-ngv2|n-ng", "ima-sig": "d-ng|n-ng|sig", "ima-sigv2": "d-ngv2|n-ng|sig",
	"ima-buf": "d-ng|n-ng|buf", "ima-modsig": "d-ng|n-ng|sig|d-modsig|modsig",
	"evm-sig": "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode",
}

// kinds are the fields of an entry's template, or nil for a template that nobody knows.
func kinds(template string) []string {
	format, ok := formats[template]
	if !ok {
		if !strings.Contains(template, "|") && !strings.HasPrefix(template, "d") && !strings.HasPrefix(template, "n") {
			return nil
		}
		format = template
	}
	return strings.Split(format, "|")
}

// Violation reports whether the kernel could not measure, because the file was
// open for writing: it then extends ones in place of a digest.
func (e *Entry) Violation() bool { return e.Digest.All(0) }

// field is the value of the first field of a kind.
func (e *Entry) field(prefix string) []byte {
	for _, f := range e.Fields {
		if f.Kind == prefix || strings.HasPrefix(f.Kind, prefix+"-") {
			return f.Value
		}
	}
	return nil
}

// File is the file's name, or the kernel's name for what was measured.
func (e *Entry) File() string { return string(bytes.TrimRight(e.field("n"), "\x00")) }

// FileDigest is the digest of the file's content; alg is 0 where it is not known here.
// prefix is "ima" or "verity" where the template says which.
func (e *Entry) FileDigest() (prefix string, alg tpm.Alg, d tpm.Digest) {
	v := e.field("d")
	head, digest, ok := bytes.Cut(v, []byte{0})
	if !ok || e.Template == "ima" || e.Template == "d" || !bytes.HasSuffix(head, []byte{':'}) {
		if len(v) == tpm.SHA1.Size() {
			return "", tpm.SHA1, v
		}
		return "", 0, v
	}
	name := strings.TrimSuffix(string(head), ":")
	if i := strings.LastIndexByte(name, ':'); i >= 0 {
		prefix, name = name[:i], name[i+1:]
	}
	alg, err := tpm.ParseAlg(strings.ReplaceAll(name, "-", "_"))
	if err != nil || alg.Size() != len(digest) {
		return prefix, 0, digest
	}
	return prefix, alg, digest
}

// String is one line for a person, safe for a terminal.
func (e *Entry) String() string {
	_, _, d := e.FileDigest()
	what := strings.Trim(fmt.Sprintf("%+q", e.File()), `"`)
	if e.Violation() {
		return what + " (not measured: the file was being written)"
	}
	return what + " " + hex.EncodeToString(d)
}

// True reports whether the entry's digest is that of its data. A violation, and a
// text that does not give all data, have nothing to compare.
func (e *Entry) True() bool {
	if e.Violation() || e.Data == nil {
		return true
	}
	for _, a := range []tpm.Alg{tpm.SHA1, tpm.SHA256, tpm.SHA384, tpm.SHA512} {
		if a.Size() == len(e.Digest) {
			return e.Digest.Equal(a.Sum(e.Data))
		}
	}
	return false
}

// split cuts the template's data into fields, each a u32 length and so many bytes.
// Data of a template that nobody knows stay one field.
func split(e *Entry, names []string, fields []Field) []Field {
	b := e.Data
	for i := 0; len(b) > 0; i++ {
		if len(b) < 4 || uint64(le.Uint32(b)) > uint64(len(b)-4) {
			return append(fields[:0], Field{Kind: "?", Value: e.Data})
		}
		n := le.Uint32(b)
		kind := "?"
		if i < len(names) {
			kind = names[i]
		}
		fields = append(fields, Field{kind, b[4 : 4+n]})
		b = b[4+n:]
	}
	return fields
}

// legacy is what the digest of an entry of the template "ima" covers: the file's
// digest and its name, padded with zeros to 256 bytes.
func legacy(dst, digest, name []byte) []byte {
	dst = append(append(dst, digest...), name...)
	return append(dst, make([]byte, max(0, 256-len(name)))...)
}
