package aem

import "strings"

// Words says a TPM's identity in four words, so that an owner notices when it is
// another one: 32 bits of it, which is for recognising and not for proving.
func Words(identity [32]byte) string {
	var list []string
	for _, b := range identity[:4] {
		list = append(list, wordList[b])
	}
	return strings.Join(list, " ")
}

// wordList are 256 English nouns and the like that are hard to take for each other.
var wordList = [256]string{
	"acorn", "actor", "album", "alley", "amber", "angle", "ankle", "apple", "april", "apron", "arena", "arrow",
	"aspen", "attic", "autumn", "axle", "bacon", "badge", "bagel", "baker", "bamboo", "banjo", "barber", "barley",
	"basil", "basket", "beacon", "beaver", "bell", "berry", "bishop", "bison", "blanket", "blossom", "bonnet", "border",
	"bottle", "boulder", "branch", "brass", "bread", "bridge", "broom", "brush", "bubble", "bucket", "buffalo", "bugle",
	"burrow", "butter", "button", "cabin", "cactus", "camel", "camera", "candle", "canoe", "canyon", "captain", "caravan",
	"carbon", "carpet", "carrot", "castle", "cellar", "cement", "chapel", "cherry", "chimney", "cider", "circus", "clover",
	"coast", "cobalt", "coconut", "comet", "compass", "copper", "coral", "corner", "cotton", "cousin", "coyote", "crayon",
	"cricket", "crown", "crystal", "cuckoo", "curtain", "cushion", "dagger", "daisy", "dancer", "desert", "diamond", "dinner",
	"doctor", "dolphin", "donkey", "dragon", "drum", "duchess", "eagle", "easel", "echo", "elbow", "elder", "ember",
	"engine", "falcon", "farmer", "feather", "fennel", "ferry", "fiddle", "finch", "flannel", "flute", "forest", "fossil",
	"fountain", "garden", "garlic", "geyser", "ginger", "giraffe", "glacier", "glove", "goblet", "granite", "grape", "gravel",
	"guitar", "hammer", "harbor", "harvest", "hazel", "helmet", "herring", "hickory", "honey", "horizon", "hornet", "igloo",
	"indigo", "island", "ivory", "jacket", "jaguar", "jasmine", "jelly", "jockey", "jungle", "kennel", "kettle", "kitchen",
	"kitten", "ladder", "lagoon", "lantern", "lemon", "lentil", "leopard", "lilac", "linen", "lizard", "lobster", "locket",
	"lumber", "magnet", "mango", "mantle", "maple", "marble", "meadow", "melon", "mirror", "mitten", "monkey", "morning",
	"mosaic", "muffin", "mustard", "napkin", "nectar", "needle", "nickel", "nutmeg", "oasis", "ocean", "olive", "onion",
	"orange", "orchid", "otter", "oyster", "paddle", "palace", "panda", "pantry", "paper", "parrot", "pebble", "pencil",
	"pepper", "piano", "pigeon", "pillow", "pilot", "pistol", "planet", "plum", "pocket", "polar", "pony", "poppy",
	"potato", "prairie", "pretzel", "puffin", "pumpkin", "puzzle", "quarry", "quill", "rabbit", "raccoon", "radish", "raven",
	"ribbon", "river", "robin", "rocket", "rooster", "saddle", "salmon", "sandal", "satin", "saturn", "scarf", "shadow",
	"silver", "sparrow", "spider", "spring", "squash", "stable", "statue", "summit", "sunset", "temple", "thistle", "ticket",
	"tiger", "timber", "tulip", "turtle",
}
