package migrate

import (
	"math"
	"regexp"
	"strings"
)

// secretName are the words in the name of a variable whose value is a secret, and
// publicName those that say it is none after all.
var (
	secretName = regexp.MustCompile(`(?i)(^|_)(PASSWORD|PASSWD|PASSPHRASE|PASS|PWD|PW|SECRET|SECRETS|TOKEN|CREDENTIALS?|APIKEY|DSN)(_|[0-9]*$)|PASSWORD|SECRET|(^|_)SALT[0-9]*$|(^|_)PIN$|(API|PRIVATE|ACCESS|ENCRYPTION|ENCRYPT|SIGNING|MASTER|AUTH|APP|SESSION|JWT|HMAC|LICENSE|STORAGE|ACCOUNT)_?KEY(_|[0-9]*$)|CONNECTION_?STRING`)
	publicName = regexp.MustCompile(`(?i)PUBLIC|_(FILE|PATH|DIR|ID|NAME|URL|URI|HOST|PORT|USER|USERNAME|ALGORITHM|TYPE|LENGTH|MIN|MAX|TTL|EXPIRY|EXPIRES|EXPIRATION|TIMEOUT|ENABLED|POLICY|HEADER|PREFIX|ROTATION|VERSION|ISSUER)$|(^|_)(COMMIT|REVISION|SHA|SHA1|SHA256|DIGEST|CHECKSUM)$|^(PWD|OLDPWD)$|(ALLOW|ENABLE|DISABLE|USE|REQUIRE|REQUIRED|RANDOM)_`)
)

// inURL is a password in an address, and inList one among NAME=value.
var (
	inURL  = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*://[^/\s:@]*:[^/\s@]+@`)
	inList = regexp.MustCompile(`(?i)(^|[?&;\s])(password|passwd|pwd)=[^\s&;]`)
)

// hump is where a word begins in a name like accessToken.
var hump = regexp.MustCompile(`([a-z0-9])([A-Z])`)

var (
	pem    = regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----`)
	known  = regexp.MustCompile(`^(gh[pousr]_[A-Za-z0-9]{20,}|xox[abprs]-[A-Za-z0-9-]{10,}|AKIA[A-Z0-9]{16}|sk_(live|test)_[A-Za-z0-9]{10,}|hvs\.[A-Za-z0-9_-]{20,}|glpat-[A-Za-z0-9_-]{20,}|AGE-SECRET-KEY-1[A-Z0-9]+|eyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+|(Basic|Bearer) [A-Za-z0-9+/=_.~-]{8,}$|https://hooks\.slack\.com/services/.)`)
	opaque = regexp.MustCompile(`^[A-Za-z0-9+/=_.~!@#$%^&*-]+$`)
	uuid   = regexp.MustCompile(`(?i)^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	plain  = regexp.MustCompile(`^(true|false|yes|no|on|off|none|null|[0-9.,:]+|/[^ ]*|[a-z]+(-[a-z]+)*(\.[a-z0-9-]+)+(:[0-9]+)?(/[a-z0-9./_-]*)?(:[A-Za-z0-9._-]+)?)$`)
)

// The reasons why a value is taken for a secret.
const (
	ByName    = "its name says so"
	ByURL     = "it is an address with a password"
	ByList    = "it has a password in it"
	ByForm    = "it has the form of a key"
	ByEntropy = "it looks random"
	ByPerson  = "you say so"
	ByPart    = "it is made of a secret"
)

// The length from which on a value can look random, in bytes, and how random that is,
// in bits a byte. A word of a language has less than 3, 32 random hex digits about 3.6.
const (
	randomLength = 20
	randomBits   = 3.3
	// mixedBits is what a value must have that is not of letters and digits alone.
	mixedBits = 4.0
)

// likely says why a variable's value is a secret; empty when it is none. Of a name that
// says so, the value is not looked at, unless it is a word that is no secret.
func likely(name, value string) string {
	name = hump.ReplaceAllString(strings.NewReplacer("-", "_", ".", "_").Replace(name), "${1}_$2")
	switch {
	case value == "":
		return ""
	case pem.MatchString(value), known.MatchString(value):
		return ByForm
	case inURL.MatchString(value):
		return ByURL
	case inList.MatchString(value):
		return ByList
	case secretName.MatchString(name) && !publicName.MatchString(name) && !harmless(value):
		return ByName
	case looksRandom(value) && !publicName.MatchString(name):
		return ByEntropy
	}
	return ""
}

// harmless are values that no variable has as a secret: switches and paths.
func harmless(value string) bool {
	switch strings.ToLower(value) {
	case "true", "false", "yes", "no", "on", "off", "none", "null":
		return true
	}
	return strings.HasPrefix(value, "/run/secrets/")
}

func looksRandom(value string) bool {
	if len(value) < randomLength || !opaque.MatchString(value) || uuid.MatchString(value) || plain.MatchString(value) {
		return false
	}
	if strings.Contains(value, "://") || strings.HasPrefix(value, "sha256:") || strings.Count(value, "/") > 2 && strings.HasPrefix(value, "/") {
		return false
	}
	need := mixedBits
	if strings.Trim(value, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/=") == "" && strings.ContainsAny(value, "0123456789") {
		need = randomBits
	}
	return entropy(value) >= need
}

// entropy is Shannon's, of the bytes of a text, in bits a byte.
func entropy(text string) float64 {
	var count [256]float64
	for i := range len(text) {
		count[text[i]]++
	}
	bits := 0.
	for _, n := range count {
		if n > 0 {
			p := n / float64(len(text))
			bits -= p * math.Log2(p)
		}
	}
	return bits
}
