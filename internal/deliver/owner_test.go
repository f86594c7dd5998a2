package deliver_test

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"gotest.tools/v3/assert"
)

// owner returns uid:gid and mode of a file.
func owner(t *testing.T, path string) string {
	t.Helper()
	info, err := os.Stat(path)
	assert.NilError(t, err)
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d %s", st.Uid, st.Gid, info.Mode())
}
