package hostsetup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"gotest.tools/v3/assert"
)

// tree is the file tree of a host that does not run.
func tree(t *testing.T, daemonJSON string) *Host {
	t.Helper()
	for _, program := range []string{"systemctl", "groupadd", "groupdel"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("this test needs %s", program)
		}
	}
	root := memory(t)
	for path, text := range map[string]string{
		"/etc/group": "root:x:0:\n", "/etc/gshadow": "root:*::\n", "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "/etc/login.defs": "SYS_GID_MIN 100\nSYS_GID_MAX 999\n",
		"/usr/lib/systemd/systemd": "", "/usr/bin/dockerd": "", "/etc/systemd/system/other.service": "[Service]\nExecStart=/bin/true\n",
	} {
		put(t, root+path, text, 0o644)
	}
	for _, name := range hostPrograms {
		put(t, root+"/usr/bin/"+name, "program "+name, 0o755)
	}
	assert.NilError(t, os.MkdirAll(root+"/root", 0o700))
	assert.NilError(t, os.MkdirAll(root+"/var/lib", 0o755))
	if daemonJSON != "" {
		put(t, root+daemonConfig, daemonJSON, 0o640)
	}
	h := New(root)
	h.Engine = away{}
	return h
}

// memory is a directory that is not on a disk, where there is such a thing: every step
// is made durable, in hundreds of trees.
func memory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "dso-tree-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { assert.NilError(t, os.RemoveAll(dir)) })
	return dir
}

// away is an engine that does not run.
type away struct{}

func (away) Info(context.Context) (Info, error) { return Info{}, ErrEngineAway }

func (away) Runtimes(context.Context) (map[string]string, error) { return nil, ErrEngineAway }

func put(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	assert.NilError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	assert.NilError(t, os.WriteFile(path, []byte(text), mode))
}

// picture is everything in the tree: names, modes, owners, contents. What the programs
// for groups leave of the time before is theirs.
func picture(t *testing.T, h *Host) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(h.Root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(path, h.Root)
		if rel == "/etc/group-" || rel == "/etc/gshadow-" {
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		text := info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			text += " " + string(data)
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			text += " -> " + to
		}
		out[rel] = text
		return nil
	})
	assert.NilError(t, err)
	return out
}

// setUp detects, plans and applies.
func setUp(t *testing.T, h *Host, o Options) (Plan, error) {
	t.Helper()
	if _, err := h.Unfinished(t.Context()); err != nil {
		return Plan{}, err
	}
	f, err := h.Detect(t.Context(), o)
	assert.NilError(t, err)
	p, err := NewPlan(f, o)
	assert.NilError(t, err)
	return p, h.Apply(t.Context(), p)
}

const existing = "{\n\t\"debug\": true\n}"

func TestSetup_IsUndoneByteForByte(t *testing.T) {
	for name, daemonJSON := range map[string]string{"without a daemon.json": "", "with one": existing} {
		t.Run(name, func(t *testing.T) {
			h := tree(t, daemonJSON)
			before := picture(t, h)
			p, err := setUp(t, h, Options{DefaultRuntime: true})
			assert.NilError(t, err)
			assert.Assert(t, len(p.Steps) > 8, "%v", p.Steps)
			content, err := os.ReadFile(h.path(daemonConfig))
			assert.NilError(t, err)
			assert.Assert(t, strings.Contains(string(content), `"default-runtime": "dso"`), string(content))
			_, err = h.Uninstall(t.Context(), false)
			assert.NilError(t, err)
			assert.DeepEqual(t, picture(t, h), before)
		})
	}
}

func TestSetup_ASecondRunChangesNothing(t *testing.T) {
	h := tree(t, existing)
	_, err := setUp(t, h, Options{})
	assert.NilError(t, err)
	before := picture(t, h)
	p, err := setUp(t, h, Options{})
	assert.NilError(t, err)
	assert.Equal(t, len(p.Steps), 0, "%v", p.Steps)
	assert.DeepEqual(t, picture(t, h), before)
}

func TestSetup_AnotherOptionLaterIsUndoneToo(t *testing.T) {
	h := tree(t, existing)
	before := picture(t, h)
	_, err := setUp(t, h, Options{})
	assert.NilError(t, err)
	p, err := setUp(t, h, Options{DefaultRuntime: true})
	assert.NilError(t, err)
	assert.Equal(t, len(p.Steps), 1, "%v", p.Steps)
	_, err = h.Uninstall(t.Context(), false)
	assert.NilError(t, err)
	assert.DeepEqual(t, picture(t, h), before)
}

var errFault = errors.New("fault")

// For every step, before and after its effect: what fails is undone.
func TestSetup_ThatFailsAnywhereLeavesTheHostAsItWas(t *testing.T) {
	everyPoint(t, func(t *testing.T, h *Host, point string) {
		before := picture(t, h)
		h.Fault = at(point, func() error { return errFault })
		_, err := setUp(t, h, Options{DefaultRuntime: true})
		assert.ErrorIs(t, err, errFault)
		assert.DeepEqual(t, picture(t, h), before)
	})
}

// For every step, before and after its effect: a setup that is killed is undone by the
// next one, or by --uninstall.
func TestSetup_ThatIsKilledAnywhereIsUndoneByTheNext(t *testing.T) {
	everyPoint(t, func(t *testing.T, h *Host, point string) {
		before := picture(t, h)
		killed(t, h, point)
		cut, err := h.Unfinished(t.Context())
		assert.NilError(t, err)
		assert.Assert(t, cut)
		assert.DeepEqual(t, picture(t, h), before)

		killed(t, h, point)
		_, err = h.Uninstall(t.Context(), false)
		assert.NilError(t, err)
		assert.DeepEqual(t, picture(t, h), before)

		killed(t, h, point)
		h.Fault = nil
		_, err = setUp(t, h, Options{DefaultRuntime: true})
		assert.NilError(t, err)
		p, err := setUp(t, h, Options{DefaultRuntime: true})
		assert.NilError(t, err)
		assert.Equal(t, len(p.Steps), 0)
	})
}

func everyPoint(t *testing.T, test func(*testing.T, *Host, string)) {
	h := tree(t, existing)
	p, err := setUp(t, h, Options{DefaultRuntime: true})
	assert.NilError(t, err)
	for i := range p.Steps {
		for _, when := range []string{"before", "after"} {
			point := fmt.Sprintf("%d/%s", i, when)
			t.Run(point, func(t *testing.T) { test(t, tree(t, existing), point) })
		}
	}
}

func at(point string, do func() error) func(string) error {
	return func(p string) error {
		if p == point {
			return do()
		}
		return nil
	}
}

// killed is a setup that dies at a point: nothing after it runs.
func killed(t *testing.T, h *Host, point string) {
	t.Helper()
	h.Fault = at(point, func() error { panic(errFault) })
	defer func() {
		assert.Equal(t, recover(), any(errFault))
		h.Fault = nil
	}()
	_, _ = setUp(t, h, Options{DefaultRuntime: true})
}

func TestUninstall_OfAFileThatSomebodyChangedTakesOutOnlyWhatIsOurs(t *testing.T) {
	h := tree(t, existing)
	_, err := setUp(t, h, Options{})
	assert.NilError(t, err)
	content, err := os.ReadFile(h.path(daemonConfig))
	assert.NilError(t, err)
	theirs := strings.Replace(string(content), "true", "false", 1)
	put(t, h.path(daemonConfig), theirs, 0o640)
	put(t, h.path("/etc/systemd/system/dso-agent.service"), "[Service]\nExecStart=/bin/mine\n", 0o644)
	_, err = h.Uninstall(t.Context(), false)
	assert.NilError(t, err)
	content, err = os.ReadFile(h.path(daemonConfig))
	assert.NilError(t, err)
	assert.Equal(t, string(content), "{\n\t\"debug\": false\n}\n")
	assert.Assert(t, exists(h.path("/etc/systemd/system/dso-agent.service")), "a unit that somebody changed is theirs")
}

func TestUninstall_IsRefusedWithTheNamesOfContainersThatNeedTheRuntime(t *testing.T) {
	h := tree(t, "")
	_, err := setUp(t, h, Options{})
	assert.NilError(t, err)
	for name, runtime := range map[string]string{"web": "dso", "db": "runc", "cache": "dso"} {
		dir := h.path("/var/lib/docker/containers/" + name)
		put(t, dir+"/hostconfig.json", fmt.Sprintf(`{"Runtime":%q}`, runtime), 0o600)
		put(t, dir+"/config.v2.json", fmt.Sprintf(`{"Name":"/shop-%s-1"}`, name), 0o600)
	}
	before := picture(t, h)
	_, err = h.Uninstall(t.Context(), false)
	var inUse *InUseError
	assert.Assert(t, errors.As(err, &inUse), "%v", err)
	assert.DeepEqual(t, inUse.Containers, []string{"shop-cache-1", "shop-web-1"})
	assert.DeepEqual(t, picture(t, h), before)
}

func TestUninstall_KeepsTheVaultAndTheConfigurationUnlessTheyAreToGo(t *testing.T) {
	h := tree(t, "")
	before := picture(t, h)
	_, err := setUp(t, h, Options{})
	assert.NilError(t, err)
	put(t, h.path("/root/.dso/key.txt"), "key", 0o600)
	put(t, h.path("/etc/dso/dso.yaml"), "version: 1\n", 0o640)
	put(t, h.path("/var/lib/dso/state/rotations.json"), "{}", 0o600)
	rm, err := h.Uninstall(t.Context(), false)
	assert.NilError(t, err)
	assert.DeepEqual(t, rm.Kept, []string{"/etc/dso", "/root/.dso"})
	assert.Assert(t, exists(h.path("/root/.dso/key.txt")) && exists(h.path("/etc/dso/dso.yaml")))
	assert.Assert(t, !exists(h.path("/var/lib/dso")), "the agent's state is about nothing any more")

	_, err = setUp(t, h, Options{})
	assert.NilError(t, err)
	_, err = h.Uninstall(t.Context(), true)
	assert.NilError(t, err)
	after := picture(t, h)
	for _, dir := range []string{"/etc/dso", "/root/.dso"} { // the second setup found them there
		delete(after, dir)
	}
	assert.DeepEqual(t, after, before)
}

func TestSetup_FromAnUnpackedArchiveInstallsTheProgramsAndTakesThemAway(t *testing.T) {
	h := tree(t, "")
	archive := t.TempDir()
	for _, name := range append([]string{"docker-dso"}, hostPrograms...) {
		put(t, filepath.Join(archive, name), "new "+name, 0o755)
	}
	before := picture(t, h)
	_, err := setUp(t, h, Options{Programs: archive})
	assert.NilError(t, err)
	content, err := os.ReadFile(h.path("/usr/local/bin/dso-agent"))
	assert.NilError(t, err)
	assert.Equal(t, string(content), "new dso-agent")
	unit, err := os.ReadFile(h.path("/etc/systemd/system/dso-agent.service"))
	assert.NilError(t, err)
	assert.Assert(t, strings.Contains(string(unit), "ExecStart=/usr/local/bin/dso-agent\n"), string(unit))
	_, err = h.Uninstall(t.Context(), false)
	assert.NilError(t, err)
	assert.DeepEqual(t, picture(t, h), before)
}
