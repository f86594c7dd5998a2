package enginetest_test

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/engine/enginetest"
	"github.com/docker-secret-operator/dso/internal/reconcile"
)

var _ reconcile.Engine = (*enginetest.Engine)(nil)

func started(t *testing.T, e *enginetest.Engine, name string, edit func(*engine.Spec)) string {
	t.Helper()
	e.AddImage("app", enginetest.Image{ID: "sha256:app"})
	spec := engine.Spec{Config: &container.Config{Image: "app"}, HostConfig: &container.HostConfig{}, Networks: map[string]*network.EndpointSettings{"net": {}}}
	if edit != nil {
		edit(&spec)
	}
	id, err := e.Create(t.Context(), name, spec)
	assert.NilError(t, err)
	assert.Equal(t, len(id), 64)
	assert.NilError(t, e.Start(t.Context(), id))
	return id
}

func policy(name container.RestartPolicyMode) func(*engine.Spec) {
	return func(s *engine.Spec) { s.HostConfig.RestartPolicy.Name = name }
}

func TestEngine_RestartStartsWhatThePoliciesSay(t *testing.T) {
	for name, tc := range map[string]struct {
		policy container.RestartPolicyMode
		byHand bool
		want   bool
	}{
		"no":                              {container.RestartPolicyDisabled, false, false},
		"always":                          {container.RestartPolicyAlways, false, true},
		"always, stopped by hand":         {container.RestartPolicyAlways, true, true},
		"unless-stopped":                  {container.RestartPolicyUnlessStopped, false, true},
		"unless-stopped, stopped by hand": {container.RestartPolicyUnlessStopped, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := enginetest.New()
			id := started(t, e, "web", policy(tc.policy))
			if tc.byHand {
				assert.NilError(t, e.Stop(t.Context(), id))
			}
			e.RestartEngine()
			c, err := e.Inspect(t.Context(), id)
			assert.NilError(t, err)
			assert.Equal(t, c.Running(), tc.want)
		})
	}
}

func TestEngine_NamesAreUniqueAndMissingIsNotFound(t *testing.T) {
	e := enginetest.New()
	id := started(t, e, "web", nil)
	other := started(t, e, "other", nil)
	assert.Assert(t, errdefs.IsConflict(e.Rename(t.Context(), other, "web")))
	_, err := e.Create(t.Context(), "web", engine.Spec{Config: &container.Config{Image: "app"}})
	assert.Assert(t, errdefs.IsConflict(err))
	assert.NilError(t, e.Remove(t.Context(), id))
	_, err = e.Inspect(t.Context(), id)
	assert.Assert(t, errdefs.IsNotFound(err))
	assert.NilError(t, e.Remove(t.Context(), id))
}

func TestEngine_StaticAddressExistsOnce(t *testing.T) {
	static := func(s *engine.Spec) {
		s.Networks["net"] = &network.EndpointSettings{IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: netip.MustParseAddr("172.20.0.9")}}
	}
	e := enginetest.New()
	started(t, e, "web", static)
	c, err := e.Inspect(t.Context(), "web")
	assert.NilError(t, err)
	id, err := e.Create(t.Context(), "second", c.Spec)
	assert.NilError(t, err)
	assert.ErrorContains(t, e.Start(t.Context(), id), "address already in use")
}

func TestEngine_FailedStartIsNeverTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := enginetest.New()
		id := started(t, e, "web", policy(container.RestartPolicyAlways))
		var starts atomic.Int32
		e.OnStart = func(engine.Container) (enginetest.Behaviour, error) {
			starts.Add(1)
			return enginetest.Behaviour{}, errors.New("refused")
		}
		e.Kill(id)
		time.Sleep(time.Hour)
		assert.Equal(t, starts.Load(), int32(1))
		c, err := e.Inspect(t.Context(), id)
		assert.NilError(t, err)
		assert.Equal(t, c.State.Error, "refused")
	})
}

func TestEngine_ProcessThatEndsIsRestartedWithPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := enginetest.New()
		var starts atomic.Int32
		e.OnStart = func(engine.Container) (enginetest.Behaviour, error) {
			starts.Add(1)
			return enginetest.Behaviour{ExitAfter: time.Second, ExitCode: 1}, nil
		}
		id := started(t, e, "web", policy(container.RestartPolicyAlways))
		time.Sleep(10 * time.Minute)
		assert.Assert(t, starts.Load() > 10 && starts.Load() < 30, "%d", starts.Load())
		c, err := e.Inspect(t.Context(), id)
		assert.NilError(t, err)
		assert.Assert(t, c.State.RestartCount > 10)
	})
}

func TestEngine_ContainerMadeWithRmIsGoneWhenItStops(t *testing.T) {
	e := enginetest.New()
	id := started(t, e, "web", func(s *engine.Spec) { s.HostConfig.AutoRemove = true })
	assert.Assert(t, errdefs.IsInvalidArgument(e.SetRestartPolicy(t.Context(), id, container.RestartPolicy{Name: "no"})))
	assert.NilError(t, e.Restart(t.Context(), id))
	assert.NilError(t, e.Stop(t.Context(), id))
	_, err := e.Inspect(t.Context(), id)
	assert.Assert(t, errdefs.IsNotFound(err))
}

func TestEngine_FaultsComeOnceBeforeOrAfterTheEffect(t *testing.T) {
	e := enginetest.New()
	id := started(t, e, "web", nil)
	lost := errors.New("lost")
	e.Fail("Rename", lost)
	assert.ErrorIs(t, e.Rename(t.Context(), id, "a"), lost)
	e.FailAfter("Rename", lost)
	assert.ErrorIs(t, e.Rename(t.Context(), id, "b"), lost)
	c, err := e.Inspect(t.Context(), id)
	assert.NilError(t, err)
	assert.Equal(t, c.Name, "b")
	e.SetDown(true)
	_, err = e.Inspect(t.Context(), id)
	assert.Assert(t, engine.Unavailable(err))
}
