package hosttest

import "testing"

// Cases runs the cases of a loop over every point. Under the race detector, which
// makes everything several times slower, it runs one in so many; without it, all.
type Cases struct{ n int }

// Run runs the case beside the others.
func (c *Cases) Run(t *testing.T, name string, test func(t *testing.T)) {
	if c.n++; c.n%oneIn != 0 {
		return
	}
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		test(t)
	})
}
