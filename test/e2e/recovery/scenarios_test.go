package recovery

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/test/lab"
)

// Scenario 1.
func TestCrash_TheNextAgentFinishesTheRotation(t *testing.T) {
	s := begin(t, "crash")
	finish := s.underLoad()
	for _, c := range []struct{ point, value string }{
		{"rolling/forward/gate/before", "v2"},
		{"rolling/forward/watch/before", "v3"},
		{"rolling/forward/name-original/after", "v4"},
		{"rolling/forward/stop/after", "v5"},
	} {
		s.dieAt(c.point, c.value)
		s.startAgent()
		s.settles(c.value)
	}
	assert.Assert(t, s.longestUntilRecovery() < time.Second, "recovery begins within a second of the start")
	s.dieAt("rolling/back/remove-replacement/before", "v6 bad")
	s.startAgent()
	s.settles("v5")
	finish()
	s.says(`"level":"info","msg":"Detected pending rotations, performing automatic recovery","count":1`)
	s.says(`"level":"info","msg":"Removing orphaned backup container","backup_id":"`)
	s.says(`"level":"info","msg":"Removing orphaned new container","new_id":"`)
	s.says(`"level":"info","msg":"Automatic recovery completed","rotations_processed":1`)
}

// longestUntilRecovery is the longest time between an agent's start and its
// recovery, as the log tells.
func (s *scene) longestUntilRecovery() (longest time.Duration) {
	var started time.Time
	for line := range strings.Lines(s.log()) {
		var entry struct {
			Time time.Time
			Msg  string
		}
		if json.Unmarshal([]byte(line), &entry) != nil {
			continue
		}
		switch {
		case entry.Msg == "agent started":
			started = entry.Time
		case strings.HasPrefix(entry.Msg, "Detected pending rotations"):
			longest = max(longest, entry.Time.Sub(started))
		}
	}
	return longest
}

// Scenario 3. What an agent of another version, or one that died half an hour ago,
// left behind neither hinders a rotation nor stays.
func TestLocks_StaleFilesHinderNobodyAndAreSwept(t *testing.T) {
	s := begin(t, "locks")
	assert.NilError(t, shared.KillAgent())
	dir := shared.HostPath("/var/lib/dso/locks")
	long := time.Now().Add(-45 * time.Minute)
	for name, content := range map[string]string{
		"secret-name.lock":  "4194304\n",
		"locks~marker.lock": `{"pid":4194304,"start_time":"2026-01-01T00:00:00Z","boot_id":"another"}`,
		"noise.lock":        "\x00\x01\xff",
	} {
		path := filepath.Join(dir, name)
		assert.NilError(t, os.WriteFile(path, []byte(content), 0o600))
		assert.NilError(t, os.Chtimes(path, long, long))
	}
	s.startAgent()
	finish := s.underLoad()
	s.set("v2")
	s.settles("v2")
	finish()
	left, err := os.ReadDir(dir)
	assert.NilError(t, err)
	assert.Equal(t, len(left), 0)
}

// damage is what may have happened to the journal while no agent ran.
var damage = map[string]func(t *testing.T, path string){
	"cut off": func(t *testing.T, path string) {
		info, err := os.Stat(path)
		assert.NilError(t, err)
		assert.NilError(t, os.Truncate(path, info.Size()/2))
	},
	"empty":   func(t *testing.T, path string) { assert.NilError(t, os.Truncate(path, 0)) },
	"rubbish": func(t *testing.T, path string) { assert.NilError(t, os.WriteFile(path, []byte("\x00\x07\xfe"), 0o600)) },
	"wrong types": func(t *testing.T, path string) {
		assert.NilError(t, os.WriteFile(path, []byte(`{"local:a:b": {"status": 7}}`), 0o600))
	},
	"a directory": func(t *testing.T, path string) {
		assert.NilError(t, os.Remove(path))
		assert.NilError(t, os.Mkdir(path, 0o700))
	},
	"a newer version": func(t *testing.T, path string) {
		content, err := os.ReadFile(path)
		assert.NilError(t, err)
		content = []byte(strings.ReplaceAll(string(content), `"strategy": "rolling"`, `"strategy": "telepathy"`))
		assert.NilError(t, os.WriteFile(path, content, 0o600))
	},
	"another format": func(t *testing.T, path string) {
		assert.NilError(t, os.WriteFile(path, []byte(`{"format": 9, "rotations": []}`), 0o600))
	},
	"unreadable": func(t *testing.T, path string) { // root reads everything but what leads nowhere
		assert.NilError(t, os.Remove(path))
		assert.NilError(t, os.Symlink(filepath.Base(path), path))
	},
	"a pipe": func(t *testing.T, path string) {
		assert.NilError(t, os.Remove(path))
		assert.NilError(t, syscall.Mkfifo(path, 0o600))
	},
	"removed": func(t *testing.T, path string) { assert.NilError(t, os.Remove(path)) },
	"removed, and the generation before": func(t *testing.T, path string) {
		assert.NilError(t, os.Remove(path))
		assert.NilError(t, os.Remove(path+".last"))
	},
	"rubbish, and so is the generation before": func(t *testing.T, path string) {
		assert.NilError(t, os.WriteFile(path, []byte("}"), 0o600))
		assert.NilError(t, os.WriteFile(path+".last", []byte("}"), 0o600))
	},
}

// Scenario 4: while a rotation is half done.
func TestJournal_DamagedInTheMiddleOfARotationLosesNothing(t *testing.T) {
	s := begin(t, "corrupt")
	finish := s.underLoad()
	path := shared.HostPath("/var/lib/dso/state/rotations.json")
	number := 1
	for name, harm := range damage {
		for _, point := range []string{"rolling/forward/start/after", "rolling/forward/name-original/after"} {
			number++
			marker := "v" + string(rune('a'+number))
			s.dieAt(point, marker)
			harm(t, path)
			before := quarantined(t, path)
			from := len(s.log())
			s.startAgent()
			s.settles(marker)
			evidence, want := 1, 1
			switch name {
			case "removed":
				evidence = 0
			case "removed, and the generation before":
				evidence, want = 0, 0
			}
			assert.Equal(t, quarantined(t, path), before+evidence, name)
			assert.Equal(t, strings.Count(s.log()[from:], "state file was unreadable"), want, name)
			t.Logf("%s at %s: survived", name, point)
		}
	}
	finish()
}

// Whatever somebody did to the state while no agent ran, the next one starts, the
// service goes on, and a new version is rotated to.
func TestState_RubbishInEveryFile(t *testing.T) {
	s := begin(t, "rubbish")
	finish := s.underLoad()
	s.set("v2")
	s.settles("v2")
	assert.NilError(t, shared.KillAgent())
	spoiled := 0
	assert.NilError(t, filepath.WalkDir(shared.HostPath("/var/lib/dso"), func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			spoiled++
			err = os.WriteFile(path, []byte("\x00\x07 rubbish"), 0o600)
		}
		return err
	}))
	assert.Assert(t, spoiled > 8, "%d files", spoiled)
	s.startAgent()
	s.set("v3")
	s.settles("v3")
	finish()
}

func quarantined(t *testing.T, path string) int {
	t.Helper()
	found, err := filepath.Glob(path + ".corrupt-*")
	assert.NilError(t, err)
	return len(found)
}

// Scenario 5.
func TestSecondAgent_IsRefusedAndSaysWhoRuns(t *testing.T) {
	s := begin(t, "second")
	id := s.docker("inspect", "-f", "{{.Id}}", s.web)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := shared.Command(ctx, "dso-agent").CombinedOutput()
	exit, ok := err.(*exec.ExitError) //nolint:errorlint // of exec, never wrapped
	assert.Assert(t, ok && exit.ExitCode() == 1, "%v: %s", err, out)
	for _, want := range []string{"another agent is running", "pid ", " since "} {
		assert.Assert(t, strings.Contains(string(out), want), string(out))
	}
	assert.Equal(t, s.docker("inspect", "-f", "{{.Id}}", s.web), id)
	s.set("v2")
	s.settles("v2")
}

// Names prove nothing: only what a rotation made is its own.
func TestForeign_ContainersWithOurKindOfNameAreNeverTouched(t *testing.T) {
	s := begin(t, "foreign")
	names := []string{"foreign-web-1_dso_backup_1", "foreign-web-1_dso_new_1", "app_dso_backup_1234567890"}
	t.Cleanup(func() {
		_, _ = shared.Docker(context.Background(), append([]string{"rm", "-f"}, names...)...)
	})
	ids := map[string]string{}
	for _, name := range names {
		ids[name] = s.docker("run", "-d", "--name", name, "-e", "APP_SECRET=mine", lab.Answerer)
	}
	s.dieAt("rolling/forward/name-original/after", "v2")
	s.startAgent()
	s.awaitAnswer("v2")
	for _, name := range names {
		assert.Equal(t, s.docker("inspect", "-f", "{{.Id}} {{.State.Running}} {{.RestartCount}}", name), ids[name]+" true 0")
	}
}
