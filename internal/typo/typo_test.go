package typo_test

import (
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/typo"
)

func TestDistance_CountsWhatIsToChange(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"rolling", "rolling", 0}, {"roling", "rolling", 1},
		{"rollingg", "rolling", 1}, {"relling", "rolling", 1}, {"kitten", "sitting", 3}, {"ab", "ba", 2},
	} {
		assert.Equal(t, typo.Distance(c.a, c.b), c.want, "%q %q", c.a, c.b)
		assert.Equal(t, typo.Distance(c.b, c.a), c.want, "%q %q", c.b, c.a)
	}
}
