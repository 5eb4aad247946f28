package bench

import (
	"bytes"
	"slices"

	"github.com/antievilmaid/aem/eventlog"
	"github.com/antievilmaid/aem/tpm"
)

// Side is who is right.
type Side string

// The sides.
const (
	OursIsRight   Side = "ours"
	TheirsIsRight Side = "theirs"
)

// Rule explains disagreements by what a log is like.
type Rule struct {
	Name    string
	Readers []string // whom it is about; each must be explained at least once
	Right   Side
	Why     string
	Source  string
	// Explains reports whether the rule's property is there, and is the reason.
	Explains func(*Input, *Disagreement) bool
}

// Explain returns the rules that explain a disagreement. There should be one:
// where two do, neither need be the reason.
func Explain(in *Input, d *Disagreement) (rules []*Rule) {
	for i := range Rules {
		if r := &Rules[i]; slices.Contains(r.Readers, d.Reader) && r.Explains(in, d) {
			rules = append(rules, r)
		}
	}
	return rules
}

var (
	everyone = []string{GoEventlog{}.Name(), GoAttestation{}.Name(), TPM2Eventlog{}.Name()}
	google   = everyone[:2]
	tools    = everyone[2:]
)

// Rules are all reasons to disagree that are known. Those about values come first.
var Rules = []Rule{
	{
		Name: "a PCR without events", Readers: google, Right: OursIsRight,
		Why:    "They accept whatever value such a PCR is said to hold. It must hold what it holds after the TPM's start: anything else was extended by something that the log hides.",
		Source: "PC Client Platform TPM Profile, clause 4.6 (start values)",
		Explains: func(in *Input, d *Disagreement) bool {
			all, _ := in.events(d.PCR, d.Alg)
			return all == 0 && d.theyAccept() && (d.Question == WrongValue || d.Question == OneBank || d.Question == LaterEvents)
		},
	},
	{
		Name: "one right bank is enough", Readers: google, Right: OursIsRight,
		Why:    "They accept a PCR whose SHA-256 value is wrong where its SHA-1 value is right, so the weaker algorithm decides, and the SHA-256 digests that the log shows may be anything.",
		Source: "their Verify functions' own comments; TCG PFP 1.04, clause 9.1 (each bank has its digest)",
		Explains: func(in *Input, d *Disagreement) bool {
			all, _ := in.events(d.PCR, d.Alg)
			return d.Question == OneBank && d.theyAccept() && all > 0
		},
	},
	{
		Name: "algorithm ids cut to 8 bits", Readers: google, Right: OursIsRight,
		Why:    "They take the unknown algorithm 0x010b for SHA-256 (0x000b) and verify a bank that the log does not have.",
		Source: "TPM Library, Part 2, clause 6.3: a TPM_ALG_ID has 16 bits",
		Explains: func(_ *Input, d *Disagreement) bool {
			return d.Question == CutAlg && d.theyAccept()
		},
	},
	{
		Name: "a placeholder in place of a measurement", Readers: google, Right: OursIsRight,
		Why:    "A digest of a one and then zeros is what launched code extends into a bank that it can't compute. The value follows from the log and proves nothing.",
		Source: "TrenchBoot's secure launch (\"OneDigest\")",
		Explains: func(in *Input, d *Disagreement) bool {
			return d.Question == RightValue && d.theyAccept() && in.any(func(e *eventlog.Event) bool {
				return e.PCR == d.PCR && eventlog.IsPlaceholder(tpm.Find(e.Digests, d.Alg))
			})
		},
	},
	{
		Name: "markers of a launch", Readers: everyone, Right: OursIsRight,
		Why:    "Events of the types 0x401, 0x503 and 0x504 structure a launch's log; they were never extended, whatever digests they carry.",
		Source: "TXT SDG, appendix G.4; Linux, secure launch",
		Explains: func(in *Input, d *Disagreement) bool {
			return d.aboutReplay() && in.any(func(e *eventlog.Event) bool {
				return e.PCR == d.PCR && !e.Type.Extended() && e.Type != eventlog.NoAction
			})
		},
	},
	{
		Name: "a hardware root of trust", Readers: everyone, Right: OursIsRight,
		Why:    "An EV_EFI_HCRTM_EVENT says that the CPU measured before the TPM's start: PCR 0 then starts with 4. They start it with 0 (tpm2_eventlog: in 5.4).",
		Source: "TPM Library, Part 1, clause 34.3; TCG PFP, clause 10.4.1",
		Explains: func(in *Input, d *Disagreement) bool {
			return d.aboutReplay() && d.PCR == 0 && in.any(func(e *eventlog.Event) bool { return e.PCR == 0 && e.Type == eventlog.EFIHCRTMEvent })
		},
	},
	{
		Name: "informative events", Readers: tools, Right: OursIsRight,
		Why:    "tpm2-tools 5.4 extends EV_NO_ACTION events, and does not start PCR 0 with the locality that one of them gives; 5.6 does both right. Where the real PCRs of such a log are published they agree with us, but for one log that was spoilt on purpose.",
		Source: "TCG PFP, clauses 10.4.1 and 10.4.5.3; tpm2-tools commits 9735dc33 and 576a31bc",
		Explains: func(in *Input, d *Disagreement) bool {
			return d.Question == Replay && in.any(func(e *eventlog.Event) bool { return e.PCR == d.PCR && e.Type == eventlog.NoAction })
		},
	},
	{
		Name: "PCRs 17 to 22 without a launch", Readers: everyone, Right: OursIsRight,
		Why:    "They start as ones, and as zeros only after a dynamic launch. The others always take them for zeros.",
		Source: "PC Client Platform TPM Profile, clause 4.6.2",
		Explains: func(in *Input, d *Disagreement) bool {
			all, _ := in.events(d.PCR, d.Alg)
			return d.aboutReplay() && !in.Launched && d.PCR.Dynamic() && all > 0
		},
	},
	{
		Name: "records behind the end that the log declares", Readers: everyone, Right: OursIsRight,
		Why:    "The Secure Kernel Loader's header says how much of the log's memory is used. What lies behind was not logged by who wrote that.",
		Source: "TXT SDG, appendix G (NextRecordOffset), which SKL's vendor information repeats",
		Explains: func(in *Input, d *Disagreement) bool {
			end, ok := in.declaredEnd()
			return ok && len(bytes.Trim(in.Log[end:], "\x00")) > 0 && (d.Question == Readable || d.Question == Count || d.aboutReplay())
		},
	},
	{
		Name: "zeros behind the last event, read as events", Readers: everyone, Right: OursIsRight,
		Why:    "Zeroed memory parses as events of PCR 0 with type 0 and no digest. PCR 0 can't be verified then; hundreds of events are shown that nobody logged.",
		Source: "TCG PFP 1.04, clause 9.1: every event has a digest for each bank",
		Explains: func(in *Input, d *Disagreement) bool {
			n := in.filler(0) / in.emptyRecord()
			return n > 0 && (d.Question == Count && d.More == n || d.Question == RightValue && d.PCR == 0)
		},
	},
	{
		Name: "zeros behind the last event, refused", Readers: everyone, Right: OursIsRight,
		Why:    "The same, where the zeros' number is not a multiple of the smallest record: the whole log is refused. Logs are read out of larger zeroed buffers.",
		Source: "as above",
		Explains: func(in *Input, d *Disagreement) bool {
			return d.refusedByThem() && in.filler(0)%in.emptyRecord() != 0
		},
	},
	{
		Name: "ones behind the last event", Readers: everyone, Right: OursIsRight,
		Why:    "Erased memory holds ones. There is no such event: its number of digests would be 4294967295.",
		Source: "real logs; go-eventlog's own option AllowPadding",
		Explains: func(in *Input, d *Disagreement) bool {
			return d.refusedByThem() && in.filler(0xff) > 0
		},
	},
	{
		Name: "an event of no register", Readers: []string{google[0], tools[0]}, Right: OursIsRight,
		Why:    "Windows logs informative events for PCR 0xffffffff, TXT the PCR mapping for PCR 255. They change no PCR, and are no reason to refuse all others. go-eventlog takes 0xffffffff for erased memory; tpm2_eventlog refuses indices above 31.",
		Source: "real logs; TXT SDG, appendix G.4",
		Explains: func(in *Input, d *Disagreement) bool {
			return d.refusedByThem() && in.agile() && in.any(func(e *eventlog.Event) bool {
				return e.PCR == 0xffffffff || e.PCR > 31 && d.Reader == tools[0]
			})
		},
	},
	{
		Name: "a wild write", Readers: tools, Right: OursIsRight,
		Why:    "In a log of SHA-1 records, tpm2-tools before 5.8 uses the PCR's number as an index without looking at it, and dies of a segmentation fault at best. Plain text and TXT containers begin with such a number too.",
		Source: "tpm2-tools, parse_sha1_log_event; commit 41f44ad7",
		Explains: func(in *Input, d *Disagreement) bool {
			_, informative := in.header()
			return d.Crashed && !informative && slices.ContainsFunc(in.sha1PCRs(), func(p tpm.PCR) bool { return p > 31 })
		},
	},
	{
		Name: "a TXT event container", Readers: google, Right: OursIsRight,
		Why:    "They don't know the format in which SINIT logs for a TPM 1.2, and take its signature for an event.",
		Source: "TXT SDG, appendix G.1",
		Explains: func(in *Input, d *Disagreement) bool {
			return d.refusedByThem() && in.parsed.Format == eventlog.TXT12Container
		},
	},
	{
		Name: "another header than that of a crypto agile log", Readers: everyone, Right: OursIsRight,
		Why:    "TPM 1.2 logs may begin with \"Spec ID Event00\" or \"02\", TXT's with \"FRMT ID EVENT00\", and any with an informative event that is no header. They take every informative event at the beginning for the one header that they know (the two libraries: every one of 28 bytes and more).",
		Source: "TCG specifications for conventional BIOS (\"00\") and for EFI platforms (\"02\"); TXT SDG, appendix G.2",
		Explains: func(in *Input, d *Disagreement) bool {
			data, informative := in.header()
			return d.refusedByThem() && informative && !bytes.HasPrefix(data, agileSignature) && (d.Reader == tools[0] || len(data) >= 28)
		},
	},
	{
		Name: "a header counted as an event", Readers: google, Right: OursIsRight,
		Why:    "A TPM 1.2 log's header of 25 bytes is shown as its first event. No PCR's value depends on it.",
		Source: "TCG specifications for conventional BIOS and for EFI platforms",
		Explains: func(in *Input, d *Disagreement) bool {
			data, _ := in.header()
			return d.Question == Count && d.More == 1 && len(data) < 28 && bytes.HasPrefix(data, []byte("Spec ID Event0"))
		},
	},
	{
		Name: "a header with a wrong signature", Readers: tools, Right: OursIsRight,
		Why:    "It takes any text in the place of \"Spec ID Event03\".",
		Source: "TCG PFP, clause 10.4.5.1",
		Explains: func(in *Input, d *Disagreement) bool {
			data, informative := in.header()
			return d.refusedByUs() && informative && !bytes.HasPrefix(data, agileSignature)
		},
	},
	{
		Name: "a header with a digest", Readers: tools, Right: TheirsIsRight,
		Why:    "The header's own digest must be zeros. We don't look at it: it is not extended, and nothing depends on it.",
		Source: "TCG PFP, clause 10.4.5.1",
		Explains: func(in *Input, d *Disagreement) bool {
			_, informative := in.header()
			return d.refusedByThem() && informative && len(bytes.Trim(in.Log[headerDigest:headerDigest+20], "\x00")) > 0
		},
	},
	{
		Name: "a bank of another length than its algorithm's", Readers: tools, Right: OursIsRight,
		Why:    "It ignores the lengths that the header declares. Readers that follow them see other events, so there is no one reading of such a log.",
		Source: "TCG PFP, clause 10.4.5.1 (digestSizes)",
		Explains: func(in *Input, d *Disagreement) bool {
			return d.refusedByUs() && slices.ContainsFunc(in.declared(), func(a eventlog.AlgSize) bool {
				return a.Alg.Size() != 0 && a.Alg.Size() != int(a.Size)
			})
		},
	},
	{
		Name: "a bank declared twice", Readers: everyone, Right: OursIsRight,
		Why:    "A TPM has one bank for each algorithm; a header that says otherwise was not written by firmware.",
		Source: "TCG PFP, clause 10.4.5.1",
		Explains: func(in *Input, d *Disagreement) bool {
			return d.refusedByUs() && twice(in.declared(), func(a eventlog.AlgSize) tpm.Alg { return a.Alg })
		},
	},
	{
		Name: "an event without digests", Readers: everyone, Right: OursIsRight,
		Why:    "It claims something and measured nothing. For the libraries no value verifies its PCR; tpm2_eventlog shows it among the measured ones.",
		Source: "TCG PFP 1.04, clause 9.1; Linux refuses it since commit 7f3d176f5f7e",
		Explains: func(in *Input, d *Disagreement) bool {
			algs, ok := in.brokenRecord()
			return d.refusedByUs() && ok && len(algs) == 0
		},
	},
	{
		Name: "two digests of one bank in an event", Readers: everyone, Right: OursIsRight,
		Why:    "The libraries replay the first, tpm2_eventlog replays both: whoever writes such a log chooses what each reader sees.",
		Source: "TCG PFP 1.04, clause 9.1",
		Explains: func(in *Input, d *Disagreement) bool {
			algs, ok := in.brokenRecord()
			return d.refusedByUs() && ok && twice(algs, func(a tpm.Alg) tpm.Alg { return a })
		},
	},
	{
		Name: "a digest of a bank that is not declared", Readers: tools, Right: OursIsRight,
		Why:    "It uses lengths that it knows itself and replays a bank that the header does not have.",
		Source: "TCG PFP 1.04, clause 9.1",
		Explains: func(in *Input, d *Disagreement) bool {
			algs, ok := in.brokenRecord()
			return d.refusedByUs() && ok && slices.ContainsFunc(algs, func(a tpm.Alg) bool { return in.size(a) == 0 })
		},
	},
	{
		Name: "banks that they don't know", Readers: []string{google[0], tools[0]}, Right: OursIsRight,
		Why:    "go-eventlog replays SHA-1, SHA-256 and SHA-384 only, and refuses a log without any of these; tpm2_eventlog does not skip a digest whose algorithm it does not know. The header gives the lengths for that.",
		Source: "TCG PFP, clause 10.4.5.1 (digestSizes); TCG Algorithm Registry",
		Explains: func(in *Input, d *Disagreement) bool {
			knows := map[string][]tpm.Alg{
				google[0]: {tpm.SHA1, tpm.SHA256, tpm.SHA384},
				tools[0]:  {tpm.SHA1, tpm.SHA256, tpm.SHA384, tpm.SHA512, tpm.SM3},
			}[d.Reader]
			known := 0
			for _, a := range in.parsed.Algs {
				if slices.Contains(knows, a.Alg) {
					known++
				}
			}
			return d.Question == RightValue && !d.theyAccept() && !slices.Contains(knows, d.Alg) ||
				d.refusedByThem() && (known == 0 || d.Reader == tools[0] && known < len(in.parsed.Algs))
		},
	},
}
