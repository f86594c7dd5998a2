//go:build race

package reconcile_test

import "flag"

// Under the race detector, which makes everything several times slower, fewer
// scenarios are played unless the command line says how many.
func init() { _ = flag.Set("rapid.checks", "20") }
