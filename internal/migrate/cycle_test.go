package migrate

import (
	"testing"
	"time"

	"gotest.tools/v3/assert"
)

// Aliases may lead to where they stand.
func TestMake_AliasesThatGoRoundInACircle(t *testing.T) {
	for _, text := range []string{
		"x-a: &a\n  b: *a\nservices: {}\n",
		"services:\n  web: &w\n    <<: *w\n",
		"services:\n  web:\n    environment: &e\n      <<: *e\n      A: b\n",
		"services:\n  web:\n    labels: &l [*l]\n",
		"services:\n  web:\n    environment: &e [*e]\n    command: &c {x: *c}\n",
		"services: &s\n  web: *s\n",
		"include: [sub/compose.yaml]\nservices: {web: {extends: {file: sub/compose.yaml, service: web}}}\n",
		"services: {web: {extends: api}, api: {extends: web}}\n",
	} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = Make(Input{Project: "p", Compose: []File{{"compose.yaml", []byte(text)}}, Read: func(string) ([]byte, error) { return []byte(text), nil }})
		}()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			assert.Assert(t, false, "it does not end: %q", text)
		}
	}
}
