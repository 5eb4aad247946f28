package livelog

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/antievilmaid/aem/drtm/slrt"
	"github.com/antievilmaid/aem/drtm/txt"
	"github.com/antievilmaid/aem/internal/physmem"
)

// ErrNoTXT says that the machine has no TXT registers: another maker's CPU, or a
// chipset or an emulator that answers with all ones or all zeros.
var ErrNoTXT = errors.New("this machine has no TXT")

// registersSize is the part of the register space that holds what is parsed: the
// first page. Commands, which only writes carry out, lie among them.
const registersSize = 0x1000

// Registers reads the TXT registers. The error wraps [ErrNoTXT] where there are none,
// and says otherwise why they can't be read.
func Registers(m Machine) (*txt.Registers, error) {
	s := newSearch(m)
	defer s.close()
	return s.registers()
}

func (s *search) registers() (*txt.Registers, error) {
	// Another maker's chipset may have something else at the address.
	if cpu := s.cpuVendor(); cpu == "AuthenticAMD" || cpu == "HygonGenuine" {
		return nil, fmt.Errorf("%w: its CPU is none of Intel's", ErrNoTXT)
	}
	b, err := s.read(txt.PublicBase, registersSize)
	if err != nil {
		return nil, fmt.Errorf("read the TXT registers: %w", err)
	}
	if holdsOnly(b, 0) {
		return nil, fmt.Errorf("%w: its registers read as zeros", ErrNoTXT)
	}
	r, err := txt.ParseRegisters(b)
	if errors.Is(err, txt.ErrAbsent) {
		return nil, fmt.Errorf("%w: %w", ErrNoTXT, err)
	}
	return r, err
}

// cpuVendor is the CPU's maker in the words of CPUID; empty where the kernel does
// not tell.
func (s *search) cpuVendor() string {
	f, err := os.Open(s.path("/proc/cpuinfo"))
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "vendor_id" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// txt asks the heap, in which firmware, boot loader and SINIT leave what they know.
func (s *search) txt() {
	heap, absent, err := s.heap()
	if heap == nil {
		const behind = "it is found through the TXT heap, which was not read"
		if absent {
			s.absent(TXTHeap, string(TXTHeap), err.Error())
			s.absent(TXTSLRT, string(TXTSLRT), behind)
		} else {
			s.skip(TXTHeap, string(TXTHeap), err)
			s.skip(TXTSLRT, string(TXTSLRT), errors.New(behind))
		}
		return
	}
	if err != nil { // what stands before the damage may name the log all the same
		s.skip(TXTHeap, string(TXTHeap), err)
	}
	if heap.OSSINIT != nil {
		s.elements(heap.OSSINIT.Elements)
	}
	if heap.OSMLE != nil {
		s.txtSLRT(heap.OSMLE)
	}
}

// heap reads the heap, as far as it can be read. Where the registers tell of no
// launch since the reset, what it holds is an earlier one's, if any's. A launch whose
// system has left again is still the one that the PCRs tell of.
func (s *search) heap() (h *txt.Heap, absent bool, err error) {
	r, err := s.registers()
	if err != nil {
		return nil, errors.Is(err, ErrNoTXT), err
	}
	if !r.Launched() && !r.Left() {
		return nil, true, fmt.Errorf("the TXT registers say: %s", r.Status())
	}
	b, err := s.read(r.HeapBase, r.HeapSize)
	if errors.Is(err, physmem.ErrRange) {
		return nil, false, fmt.Errorf("the TXT registers name no heap: %w", err)
	}
	if err != nil {
		return nil, false, fmt.Errorf("read the TXT heap: %w", err)
	}
	h, err = txt.ParseHeap(b)
	return h, false, err
}

// elements follows the heap's pointers to logs: the log with all banks first, then
// those with one bank each, then the TPM 1.2's.
func (s *search) elements(elements []txt.Element) {
	before := len(s.found) + len(s.skipped)
	for _, kind := range []txt.ElementType{txt.ElementEventLogAgile, txt.ElementEventLogPerAlg, txt.ElementEventLog12} {
		for _, e := range elements {
			if e.Type != kind {
				continue
			}
			for _, one := range apart(e) {
				s.pointers(one)
			}
		}
	}
	if len(s.found)+len(s.skipped) == before {
		s.skip(TXTHeap, string(TXTHeap), errors.New("the boot loader's table for SINIT names no event log"))
	}
}

// apart makes elements with one pointer each of an element with several, so that a
// pointer that leads nowhere does not hide the others.
func apart(e txt.Element) []txt.Element {
	const count, pointer = 4, 24
	if e.Type != txt.ElementEventLogPerAlg || len(e.Data) < count+pointer || uint64(len(e.Data)-count) != uint64(le.Uint32(e.Data))*pointer {
		return []txt.Element{e}
	}
	var list []txt.Element
	for at := count; at < len(e.Data); at += pointer {
		list = append(list, txt.Element{Type: e.Type, Data: append([]byte{1, 0, 0, 0}, e.Data[at:at+pointer]...)})
	}
	return list
}

// pointers follows an element's pointer.
func (s *search) pointers(e txt.Element) {
	name := fmt.Sprintf("TXT heap, element %d", uint32(e.Type))
	list, err := txt.LogPointers([]txt.Element{e})
	if err != nil {
		s.skip(TXTHeap, name, err)
		return
	}
	for _, p := range list {
		f := Found{Source: TXTHeap, Name: fmt.Sprintf("%s, at %#x", name, p.Address), Alg: p.Alg}
		if p.Alg != 0 {
			f.Name = fmt.Sprintf("%s (%s), at %#x", name, p.Alg, p.Address)
		}
		switch {
		case p.Kind == txt.ElementEventLog12:
			s.container(f, p.Address)
		case p.First == p.Next:
			s.skip(TXTHeap, f.Name, errors.New("nothing was written into it"))
		default:
			// Behind the next record's place lies memory that nobody wrote.
			f.Room, f.RoomKnown = int(p.Allocated-p.Next), true
			s.addMemory(f, p.Address+uint64(p.First), uint64(p.Next-p.First))
		}
	}
}

// container reads a TPM 1.2 log, which its pointer gives no size: the log's own
// header does (SDG, appendix G.1).
func (s *search) container(f Found, address uint64) {
	const header, sizeAt, signature = 48, 36, "TXT Event Container\x00"
	b, err := s.read(address, header)
	if err == nil && string(b[:len(signature)]) != signature {
		err = errors.New("no event container begins there")
	}
	if err == nil && le.Uint32(b[sizeAt:]) < header {
		err = fmt.Errorf("the event container claims %d bytes, fewer than its header has", le.Uint32(b[sizeAt:]))
	}
	if err != nil {
		s.skip(f.Source, f.Name, err)
		return
	}
	s.addMemory(f, address, uint64(le.Uint32(b[sizeAt:])))
}

// txtSLRT follows the boot loader's table for the launched environment to the SLRT.
func (s *search) txtSLRT(osmle []byte) {
	table, err := txt.ParseOSMLE(osmle)
	if err != nil {
		s.absent(TXTSLRT, string(TXTSLRT), err.Error())
		return
	}
	name := fmt.Sprintf("%s, at %#x", TXTSLRT, table.SLRT)
	b, err := s.slrt(table.SLRT)
	if err != nil {
		s.skip(TXTSLRT, name, err)
		return
	}
	s.logInfo(TXTSLRT, name, b)
}

// slrt reads a table: first the header, then what that claims.
func (s *search) slrt(address uint64) ([]byte, error) {
	const header, sizeAt, most = 16, 8, 64 << 10
	b, err := s.read(address, header)
	if err != nil {
		return nil, err
	}
	size := le.Uint32(b[sizeAt:])
	if le.Uint32(b) != slrt.Magic || size < header || size > most {
		return nil, errors.New("no SLRT begins there")
	}
	return s.read(address, uint64(size))
}

// logInfo takes the log that an SLRT names.
func (s *search) logInfo(source Source, name string, b []byte) {
	table, err := slrt.Parse(b)
	var info *slrt.LogInfo
	if table != nil { // where it is damaged, with the entries before that
		info = table.LogInfo()
	}
	if info == nil {
		if err == nil {
			err = errors.New("the table names no event log")
		}
		s.skip(source, name, err)
		return
	}
	s.addMemory(Found{Source: source, Name: fmt.Sprintf("%s, log at %#x", name, info.Address)}, info.Address, uint64(info.Size))
}
