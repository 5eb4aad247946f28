package luks

import (
	"fmt"
	"slices"
	"strings"
)

// The numbers that cryptsetup allows (lib/luks2/luks2.h).
const (
	maxKeySlots = 32
	maxSegments = 32
	maxDigests  = 8
	maxTokens   = 32
)

const (
	sector  = 512
	stripes = 4000 // the anti-forensic splitter's only number
	// maxKeySize bounds what a slot's stripes can make this program read: a volume key has
	// 64 bytes, or twice that with an old cipher and an integrity key.
	maxKeySize = 512
)

// stripesLen is how much of a slot's area cryptsetup reads (AF_split_sectors).
func stripesLen(keySize int) uint64 {
	return (uint64(keySize)*stripes + sector - 1) / sector * sector
}

// decode reads the metadata of LUKS2, or those of LUKS1 in LUKS2's words, into h, and holds
// them against the format's rules. areas are the bytes in which key material may lie.
func (h *Header) decode(o object, areas span) error {
	var f fields
	if err := requirements(o); err != nil {
		return err
	}
	for name := range o {
		if !slices.Contains(sections, name) {
			f.refuse("it has a section %s", clip(name))
		}
	}
	for _, e := range f.numbered(o, "segments", maxSegments) {
		h.Segments = append(h.Segments, segment(&f, e))
	}
	if len(h.Segments) != 1 {
		f.refuse("it has %d data segments instead of one", len(h.Segments))
	}
	for _, e := range f.numbered(o, "keyslots", maxKeySlots) {
		h.KeySlots = append(h.KeySlots, keySlot(&f, e))
	}
	for _, e := range f.numbered(o, "digests", maxDigests) {
		h.Digests = append(h.Digests, digest(&f, e))
	}
	for _, e := range f.numbered(o, "tokens", maxTokens) {
		where := fmt.Sprintf("token %d", e.number)
		h.Tokens = append(h.Tokens, Token{e.number, f.text(e.object, where, "type"), f.texts(e.object, where, "keyslots", false)})
	}
	if f.err == nil {
		h.checkReferences(&f)
	}
	if f.err == nil {
		checkAreas(&f, h.KeySlots, areas)
	}
	return f.err
}

// requirements refuses what must not be ignored, before anything else is looked at: with
// an unknown requirement, all the rest may mean something else.
func requirements(o object) error {
	var f fields
	config := f.object(o, "the header", "config")
	if _, ok := config["requirements"]; !ok || f.err != nil {
		return f.err
	}
	names := f.texts(f.object(config, "config", "requirements"), "requirements", "mandatory", true)
	if f.err != nil || len(names) == 0 {
		return f.err
	}
	for _, n := range names {
		if n == "offline-reencrypt" || n == "online-reencrypt" || strings.HasPrefix(n, "online-reencrypt-v") {
			return fmt.Errorf("%w (its header demands %s)", ErrReencrypting, clip(n))
		}
	}
	return &RequirementError{names}
}

func segment(f *fields, e entry) Segment {
	where := fmt.Sprintf("segment %d", e.number)
	for _, flag := range f.texts(e.object, where, "flags", true) {
		if flag == "in-reencryption" || strings.HasPrefix(flag, "backup-") {
			f.err = fmt.Errorf("%w (%s has the flag %s)", ErrReencrypting, where, clip(flag))
		}
	}
	if t := f.text(e.object, where, "type"); t != "crypt" {
		f.refuse("%s is of the type %s", where, clip(t))
	}
	if _, ok := e.object["integrity"]; ok {
		f.refuse("%s has integrity tags, whose own header lies among the data", where)
	}
	s := Segment{
		Number:     e.number,
		Offset:     f.decimal(e.object, where, "offset"),
		Encryption: f.text(e.object, where, "encryption"),
		SectorSize: f.number(e.object, where, "sector_size"),
	}
	f.decimal(e.object, where, "iv_tweak")
	if e.object["size"] != "dynamic" {
		if s.Size = f.decimal(e.object, where, "size"); s.Size == 0 {
			f.fail("%s is empty", where)
		}
	}
	if s.SectorSize == 0 || s.SectorSize%sector != 0 || s.Offset%sector != 0 || s.Size%uint64(max(s.SectorSize, 1)) != 0 {
		f.fail("%s: its sectors, its start or its end do not fit together", where)
	}
	return s
}

func keySlot(f *fields, e entry) KeySlot {
	where := fmt.Sprintf("key slot %d", e.number)
	switch t := f.text(e.object, where, "type"); t {
	case "luks1", "luks2":
	case "reencrypt":
		f.err = fmt.Errorf("%w (%s keeps its progress)", ErrReencrypting, where)
	default:
		f.refuse("%s is of the type %s", where, clip(t))
	}
	s := KeySlot{Number: e.number, KeySize: int(f.number(e.object, where, "key_size")), Priority: 1}
	if s.KeySize == 0 || s.KeySize > maxKeySize {
		f.fail("%s: its key has %d bytes", where, s.KeySize)
	}
	if _, ok := e.object["priority"]; ok {
		s.Priority = int(f.number(e.object, where, "priority"))
	}

	af := f.object(e.object, where, "af")
	if t := f.text(af, where, "type"); t != "luks1" || f.number(af, where, "stripes") != stripes {
		f.refuse("%s: its key is split in a way that is not known", where)
	}
	s.AFHash = f.text(af, where, "hash")

	area := f.object(e.object, where, "area")
	if t := f.text(area, where, "type"); t != "raw" {
		f.refuse("%s: its area is of the type %s", where, clip(t))
	}
	s.Area = Area{
		Offset:     f.decimal(area, where, "offset"),
		Size:       f.decimal(area, where, "size"),
		Encryption: f.text(area, where, "encryption"),
		KeySize:    int(f.number(area, where, "key_size")),
	}
	s.KDF = kdf(f, f.object(e.object, where, "kdf"), where)
	return s
}

func kdf(f *fields, o object, where string) KDF {
	k := KDF{Type: f.text(o, where, "type"), Salt: f.base64(o, where, "salt")}
	switch k.Type {
	case "pbkdf2":
		k.Hash = f.text(o, where, "hash")
		k.Iterations = f.number(o, where, "iterations")
	case "argon2i", "argon2id":
		k.Iterations = f.number(o, where, "time")
		k.Memory = f.number(o, where, "memory")
		k.Threads = f.number(o, where, "cpus")
	default:
		f.refuse("%s derives its key with %s", where, clip(k.Type))
	}
	return k
}

func digest(f *fields, e entry) Digest {
	where := fmt.Sprintf("digest %d", e.number)
	if t := f.text(e.object, where, "type"); t != "pbkdf2" {
		f.refuse("%s is of the type %s", where, clip(t))
	}
	f.base64(e.object, where, "salt")
	f.base64(e.object, where, "digest")
	return Digest{
		Number:     e.number,
		KeySlots:   f.texts(e.object, where, "keyslots", false),
		Segments:   f.texts(e.object, where, "segments", false),
		Hash:       f.text(e.object, where, "hash"),
		Iterations: f.number(e.object, where, "iterations"),
	}
}

// checkReferences demands that every digest and token names what there is, and that nothing
// belongs to two digests. cryptsetup takes the first of two in the order of the JSON text,
// which is not measured. It also takes a volume key's size from whichever slot comes first.
func (h *Header) checkReferences(f *fields) {
	sizes := map[string]int{}
	for _, s := range h.KeySlots {
		sizes[fmt.Sprint(s.Number)] = s.KeySize
	}
	segments := map[string]bool{}
	for _, s := range h.Segments {
		segments[fmt.Sprint(s.Number)] = true
	}
	slotTaken, segmentTaken := map[string]bool{}, map[string]bool{}
	for _, d := range h.Digests {
		for _, name := range d.KeySlots {
			if sizes[name] == 0 || slotTaken[name] || sizes[name] != sizes[d.KeySlots[0]] {
				f.fail("digest %d names key slot %s, which is not there, is named twice, or has a key of another size", d.Number, clip(name))
			}
			slotTaken[name] = true
		}
		for _, name := range d.Segments {
			if !segments[name] || segmentTaken[name] {
				f.fail("digest %d names segment %s, which is not there or is named twice", d.Number, clip(name))
			}
			segmentTaken[name] = true
		}
	}
	if len(segmentTaken) != len(segments) || len(slotTaken) != len(sizes) {
		f.fail("a data segment or a key slot has no digest")
	}
	for _, t := range h.Tokens {
		for _, name := range t.KeySlots {
			if sizes[name] == 0 {
				f.fail("token %d names key slot %s, which is not there", t.Number, clip(name))
			}
		}
	}
}

// span is a range of bytes of the device.
type span struct{ from, to uint64 }

// checkAreas demands that the key material lies where it may, and no two slots' in the
// same place: two slots that read one area could be opened with the passphrase of one.
func checkAreas(f *fields, slots []KeySlot, areas span) {
	sorted := slices.Clone(slots)
	slices.SortStableFunc(sorted, func(a, b KeySlot) int {
		if a.Area.Offset < b.Area.Offset {
			return -1
		}
		return 1
	})
	free := areas.from
	for _, s := range sorted {
		a := s.Area
		if a.Offset%sector != 0 || a.Offset < free || a.Offset > areas.to || a.Size > areas.to-a.Offset || a.Size < stripesLen(s.KeySize) {
			f.fail("key slot %d: its area lies outside the header, in another slot's, or is too small", s.Number)
			return
		}
		free = a.Offset + a.Size
	}
}

// isNullCipher reports whether a cipher leaves the data as they are.
func isNullCipher(encryption string) bool {
	name, _, _ := strings.Cut(encryption, "-")
	return strings.EqualFold(name, "cipher_null") || strings.EqualFold(name, "null")
}
