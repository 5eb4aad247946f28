package journal

// A Kind is a stable word for what happened, such as "sealed". The set is open: a
// reader takes any word of small letters, digits and hyphens that begins with a
// letter and has at most 32 bytes.
type Kind string

// The kinds that this version writes.
const (
	SetUp         Kind = "set-up"
	SecretSet     Kind = "secret-set"
	Sealed        Kind = "sealed"
	Approved      Kind = "approved"
	LeftToOwner   Kind = "left-to-owner" // aem-setup approve --auto approved nothing
	Opened        Kind = "opened"
	Refused       Kind = "refused"
	Unproven      Kind = "unproven" // a boot without a proof, and without a refusal that is known
	MediumAdded   Kind = "medium-added"
	MediumRevoked Kind = "medium-revoked"
	Uninstalled   Kind = "uninstalled"
	Escrowed      Kind = "escrowed"  // the store's key was given out, encrypted
	Recovered     Kind = "recovered" // the store's key was sealed to this TPM anew, from the escrow
	Moved         Kind = "moved"     // the store was taken over from another TPM
	Restored      Kind = "restored"  // a backup took the store's place
	Accepted      Kind = "accepted"  // its owner took a journal as it was
	Torn          Kind = "torn"      // written by Append itself: a torn line was set aside
)

const maxKind = 32

func (k Kind) valid() bool {
	if k == "" || len(k) > maxKind || k[0] < 'a' || k[0] > 'z' {
		return false
	}
	for _, c := range []byte(k) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}
