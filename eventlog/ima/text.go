package ima

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/antievilmaid/aem/tpm"
)

// maxLine is longer than any line that a kernel prints.
const maxLine = 1 << 20

// TextReader reads a list in text: for each entry a line of PCR, template digest,
// template and fields.
type TextReader struct {
	s      *bufio.Scanner
	offset int64
	count  int
	entry  Entry
	err    error
}

// NewTextReader begins to read a list in text.
func NewTextReader(r io.Reader) *TextReader {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 4096), maxLine)
	return &TextReader{s: s}
}

// Next is as [Reader.Next].
func (r *TextReader) Next() (*Entry, error) {
	for r.err == nil && r.s.Scan() {
		line := r.s.Bytes()
		at := r.offset
		r.offset += int64(len(line)) + 1
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if reason := r.parse(line, at); reason != "" {
			r.err = &SyntaxError{at, r.count, reason}
			break
		}
		r.count++
		return &r.entry, nil
	}
	if r.err == nil {
		r.err = io.EOF
		if err := r.s.Err(); err != nil {
			r.err = &SyntaxError{r.offset, r.count, err.Error()}
		}
	}
	return nil, r.err
}

func (r *TextReader) parse(line []byte, at int64) (reason string) {
	words := strings.Fields(string(line))
	if len(words) < 4 {
		return "a line has a PCR, a digest, a template and its fields"
	}
	pcr, err := strconv.ParseUint(words[0], 10, 8)
	if err != nil || pcr >= tpm.NumPCRs {
		return fmt.Sprintf("%q is no PCR", words[0])
	}
	digest, err := hex.DecodeString(words[1])
	if err != nil || len(digest) < 20 || len(digest) > 64 {
		return fmt.Sprintf("%q is no digest", words[1])
	}
	r.entry = Entry{PCR: tpm.PCR(pcr), Digest: digest, Template: words[2], Offset: at}
	r.entry.Fields, r.entry.Data = textFields(words[2], words[3:])
	return ""
}

// textFields turns the fields' texts into values, and those into the template's
// data where all of them are known. A space in a file's name can't be told from
// the end of a field, so such an entry has no data to check.
func textFields(template string, words []string) ([]Field, []byte) {
	names := kinds(template)
	var fields []Field
	complete := len(words) <= len(names)
	for i, kind := range names {
		word := ""
		if i < len(words) {
			word = words[i]
		}
		value := []byte(word)
		switch kind {
		case "d":
			b, err := hex.DecodeString(word)
			complete = complete && err == nil
			value = b
		case "d-ng", "d-ngv2", "d-modsig":
			head, digest, _ := cutLast(word, ':')
			b, err := hex.DecodeString(digest)
			complete = complete && err == nil
			value = append([]byte(head+":\x00"), b...)
			if word == "" {
				value = nil
			}
		case "n":
		case "n-ng":
			value = append(value, 0)
		default: // bytes in hexadecimal digits
			b, err := hex.DecodeString(word)
			complete = complete && err == nil
			value = b
		}
		fields = append(fields, Field{kind, value})
	}
	if !complete || len(fields) == 0 {
		return fields, nil
	}
	if template == "ima" {
		return fields, legacy(nil, fields[0].Value, fields[1].Value)
	}
	var data []byte
	for _, f := range fields {
		data = append(le.AppendUint32(data, uint32(len(f.Value))), f.Value...)
	}
	return fields, data
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	if i := strings.LastIndexByte(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return "", s, false
}
