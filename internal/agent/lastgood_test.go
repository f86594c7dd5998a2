package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/api/wire"
	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/seal"
)

// badStart is an agent that starts on a bad file, of which a good one was taken before.
func badStart(t *testing.T, text string) (a *Agent, s *seal.Store) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "dso.yaml")
	assert.NilError(t, os.WriteFile(file, []byte(text), 0o600))
	c, err := LoadConfig(file)
	assert.NilError(t, err)
	s, _, err = seal.Open(t.Context(), filepath.Join(dir, "sealed"), seal.ByFile)
	assert.NilError(t, err)
	assert.NilError(t, keepGood(s, c, time.Now()))
	assert.NilError(t, os.WriteFile(file, []byte("nonsense: true\n"), 0o600))
	a = &Agent{cfg: Config{StateDir: dir, ConfigFile: file}, log: slog.New(slog.DiscardHandler)}
	_, a.cfg.Bad = LoadConfig(file)
	assert.Assert(t, a.cfg.Bad != nil)
	return a, s
}

func TestRestoreGood_TakesTheLastGoodOneOfThatFile(t *testing.T) {
	a, _ := badStart(t, "providers:\n"+files("a", "/srv/secrets"))
	assert.NilError(t, a.restoreGood())
	assert.Equal(t, len(a.cfg.Loaded.Providers), 1)
	assert.Equal(t, a.cfg.Loaded.File, a.cfg.ConfigFile)
	assert.Assert(t, a.sealed != nil)
}

func TestRestoreGood_RefusesWithBothReasons(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(a *Agent, s *seal.Store) error
		why    string
	}{
		"another file": {func(a *Agent, _ *seal.Store) error {
			a.cfg.ConfigFile += ".other"
			return nil
		}, "the sealed one is of "},
		"a variable that is gone": {func(*Agent, *seal.Store) error { return os.Unsetenv("DSO_TEST_DIR") }, "cannot be used any more"},
		"none":                    {func(_ *Agent, s *seal.Store) error { return s.Note(goodNote, nil) }, "none is sealed"},
		"no seal":                 {func(a *Agent, _ *seal.Store) error { return seal.Destroy(a.state("sealed")) }, "agent.seal was off"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("DSO_TEST_DIR", "/srv/secrets")
			a, s := badStart(t, "providers:\n"+files("a", `"${DSO_TEST_DIR}"`))
			assert.NilError(t, tc.change(a, s))
			err := a.restoreGood()
			assert.ErrorContains(t, err, "unknown key `nonsense`")
			var refused *noGood
			assert.Assert(t, errors.As(err, &refused))
			assert.ErrorContains(t, refused.why, tc.why)
			assert.Assert(t, refused.Hint() != "")
		})
	}
}

// Who removes the file wants none, also after the next bad one.
func TestKeepGood_ForgetsWhenThereIsNoFile(t *testing.T) {
	a, s := badStart(t, "version: 1\n")
	none, err := newSettings(Config{Log: a.log}, nil, provider.NewFingerprint(nil), s)
	assert.NilError(t, err)
	assert.Equal(t, none.config.File, "")
	_, err = goodOnes(s)
	assert.ErrorIs(t, err, seal.ErrNotSealed)
}

func TestKeepGood_KeepsTheLastTenAndReadsTheOneOfAnOlderAgent(t *testing.T) {
	a, s := badStart(t, "version: 1\n")
	a.sealed = s
	for n := range 12 {
		file := a.cfg.ConfigFile
		assert.NilError(t, os.WriteFile(file, fmt.Appendf(nil, "version: 1\n# %d\n", n), 0o600))
		c, err := LoadConfig(file)
		assert.NilError(t, err)
		assert.NilError(t, keepGood(s, c, time.Now()))
		assert.NilError(t, keepGood(s, c, time.Now())) // the same one
	}
	rows, err := a.ConfigVersions(t.Context())
	assert.NilError(t, err)
	assert.Equal(t, len(rows), keepGoods)
	third, err := a.ConfigVersion(t.Context(), wire.ConfigVersion{Number: 3})
	assert.NilError(t, err)
	assert.Equal(t, string(third.Content), "version: 1\n# 9\n")
	_, err = a.ConfigVersion(t.Context(), wire.ConfigVersion{Number: 11})
	assert.ErrorContains(t, err, "no version 11")

	assert.NilError(t, s.Note(goodNote, []byte(`{"file": "/etc/dso/dso.yaml", "taken": "2026-01-02T03:04:05Z", "content": "djEK"}`)))
	all, err := goodOnes(s)
	assert.NilError(t, err)
	assert.Equal(t, len(all), 1)
	assert.Equal(t, string(all[0].Content), "v1\n")
}
