package luks

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"math"
	"slices"
	"strconv"
)

// fields reads typed members out of JSON and keeps the first fault, so that a structure is
// read member by member and checked once.
type fields struct{ err error }

func (f *fields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = malformed(format, args...)
	}
}

func (f *fields) refuse(format string, args ...any) {
	if f.err == nil {
		f.err = unsupported(format, args...)
	}
}

func member[T any](f *fields, o object, where, name, kind string) T {
	v, ok := o[name].(T)
	if !ok {
		f.fail("%s has no %q that is %s", where, name, kind)
	}
	return v
}

func (f *fields) object(o object, where, name string) object {
	return member[object](f, o, where, name, "an object")
}

func (f *fields) text(o object, where, name string) string {
	return member[string](f, o, where, name, "a text")
}

// number is a JSON number; cryptsetup writes sizes and counts of 32 bits so.
func (f *fields) number(o object, where, name string) uint32 {
	n, ok := decimal(string(member[json.Number](f, o, where, name, "a number")))
	if !ok || n > math.MaxInt32 { // json-c's int
		f.fail("%s: %q is not a whole number below 2^31", where, name)
	}
	return uint32(n)
}

// decimal is a number in a string; cryptsetup writes offsets and sizes of 64 bits so.
func (f *fields) decimal(o object, where, name string) uint64 {
	n, ok := decimal(f.text(o, where, name))
	if !ok {
		f.fail("%s: %q is not a whole number", where, name)
	}
	return n
}

func (f *fields) base64(o object, where, name string) []byte {
	b, err := base64.StdEncoding.Strict().DecodeString(f.text(o, where, name))
	if err != nil {
		f.fail("%s: %q is not base64", where, name)
	}
	return b
}

// texts is a list of strings. Where it is absent and may be, it is empty.
func (f *fields) texts(o object, where, name string, optional bool) []string {
	if _, ok := o[name]; !ok && optional {
		return nil
	}
	var list []string
	for _, v := range member[[]any](f, o, where, name, "a list") {
		s, ok := v.(string)
		if !ok {
			f.fail("%s: %q has a member that is not a text", where, name)
		}
		list = append(list, s)
	}
	return list
}

// numbered lists the members of a section, whose names are numbers below limit, in
// ascending order.
func (f *fields) numbered(o object, section string, limit uint64) []entry {
	var list []entry
	for name, v := range f.object(o, "the header", section) {
		n, ok := decimal(name)
		body, isObject := v.(object)
		if !ok || n >= limit || !isObject {
			f.fail("%q has a member %s, which is not an object with a number below %d", section, clip(name), limit)
		}
		list = append(list, entry{int(n), body})
	}
	slices.SortStableFunc(list, func(a, b entry) int { return cmp.Compare(a.number, b.number) })
	return list
}

type entry struct {
	number int
	object object
}

// decimal reads a number as cryptsetup writes it. Leading zeros and signs, which strtoull
// takes, are none.
func decimal(s string) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && strconv.FormatUint(n, 10) == s
}
