// Package e2e tests the programs on a private Docker engine, as a user would
// meet them. The programs come from bin/ and tools/bin/: `make e2e` builds them.
package e2e
