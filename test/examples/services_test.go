package examples

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

// get asks the example's server from another host.
func (e *example) get(path string) string {
	e.t.Helper()
	out, err := shared.ClientCommand(e.t.Context(), "answerer", "get", e.url(path)).CombinedOutput()
	assert.NilError(e.t, err, string(out))
	return strings.TrimSpace(string(out))
}

func signed(key, message string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(message))
	return hex.EncodeToString(mac.Sum(nil))
}

func TestNode_SignsWithTheNewKeyAndLosesNoRequest(t *testing.T) {
	e := open(t, "node")
	assert.Equal(t, e.get("/?message=hello"), signed(e.value("signing_key"), "hello"))

	var now string
	e.loaded("/?message=load", func() { _, now = e.rotate("signing_key") })

	assert.Equal(t, e.get("/?message=hello"), signed(now, "hello"))
	e.keepsSecrets()
	e.follow("End")
}
