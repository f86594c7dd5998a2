package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"gotest.tools/v3/assert"
)

func TestIsOf_KnowsAProcessByItsControlGroup(t *testing.T) {
	id := strings.Repeat("c0ffee00", 8)
	for name, tc := range map[string]struct {
		groups string
		want   string
	}{
		"cgroupfs":          {"12:cpu:/docker/" + id + "\n1:name=systemd:/docker/" + id + "\n", ""},
		"systemd":           {"0::/system.slice/docker-" + id + ".scope\n", ""},
		"from a namespace":  {"0::/../" + id + "\n", ""},
		"another container": {"0::/docker/" + strings.Repeat("beef", 16) + "\n", "must see the processes of the engine's host"},
		"no container":      {"0::/user.slice\n", "must see the processes of the engine's host"},
	} {
		proc := t.TempDir()
		assert.NilError(t, os.Mkdir(filepath.Join(proc, "7"), 0o700))
		assert.NilError(t, os.WriteFile(filepath.Join(proc, "7", "cgroup"), []byte(tc.groups), 0o600))
		err := isOf(proc, 7, id)
		if tc.want == "" {
			assert.NilError(t, err, name)
		} else {
			assert.ErrorContains(t, err, tc.want, name)
		}
		assert.Assert(t, errdefs.IsConflict(isOf(proc, 8, id)))
	}
}
