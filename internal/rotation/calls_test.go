package rotation_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/engine"
	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/rotation"
)

// mortal is an engine whose caller dies at one of the calls that change something:
// the moments inside a step.
type mortal struct {
	rotation.Engine
	calls int
	at    int // from 1; 0: never
	after bool
}

func (m *mortal) call(do func() error) error {
	m.calls++
	if m.calls == m.at && !m.after {
		panic(died{})
	}
	err := do()
	if m.calls == m.at {
		panic(died{})
	}
	return err
}

func (m *mortal) Create(ctx context.Context, name string, spec engine.Spec) (id string, err error) {
	err = m.call(func() error {
		id, err = m.Engine.Create(ctx, name, spec)
		return err
	})
	return id, err
}

func (m *mortal) ConnectAll(ctx context.Context, id string, spec engine.Spec) error {
	return m.call(func() error { return m.Engine.ConnectAll(ctx, id, spec) })
}

func (m *mortal) Start(ctx context.Context, id string) error {
	return m.call(func() error { return m.Engine.Start(ctx, id) })
}

func (m *mortal) Stop(ctx context.Context, id string) error {
	return m.call(func() error { return m.Engine.Stop(ctx, id) })
}

func (m *mortal) Restart(ctx context.Context, id string) error {
	return m.call(func() error { return m.Engine.Restart(ctx, id) })
}

func (m *mortal) Signal(ctx context.Context, id, signal string) error {
	return m.call(func() error { return m.Engine.Signal(ctx, id, signal) })
}

func (m *mortal) Exec(ctx context.Context, id string, command []string) (code int, err error) {
	err = m.call(func() error {
		code, err = m.Engine.Exec(ctx, id, command)
		return err
	})
	return code, err
}

func (m *mortal) Remove(ctx context.Context, id string) error {
	return m.call(func() error { return m.Engine.Remove(ctx, id) })
}

func (m *mortal) Rename(ctx context.Context, id, name string) error {
	return m.call(func() error { return m.Engine.Rename(ctx, id, name) })
}

func (m *mortal) SetRestartPolicy(ctx context.Context, id string, policy container.RestartPolicy) error {
	return m.call(func() error { return m.Engine.SetRestartPolicy(ctx, id, policy) })
}

func (m *mortal) Connect(ctx context.Context, id, name string, ep *network.EndpointSettings) error {
	return m.call(func() error { return m.Engine.Connect(ctx, id, name, ep) })
}

func (m *mortal) Disconnect(ctx context.Context, id, name string) error {
	return m.call(func() error { return m.Engine.Disconnect(ctx, id, name) })
}

// calls counts the calls of the change's rotation that change something.
func (c change) calls(t *testing.T) (n int) {
	synctest.Test(t, func(t *testing.T) {
		s := c.arrange(t)
		m := &mortal{Engine: s.Engine}
		s.Machine.Engine = m
		assert.NilError(t, s.rotate(context.Background()))
		n = m.calls
	})
	return n
}

func TestMachine_KilledAroundAnyCallOfTheEngineIsFinishedByTheNextAgent(t *testing.T) {
	var each hosttest.Cases
	for _, c := range changes() {
		for at := range c.calls(t) {
			for _, after := range []bool{false, true} {
				each.Run(t, fmt.Sprintf("%s/call %d, done=%t", c, at+1, after), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						s := c.arrange(t)
						s.Machine.Engine = &mortal{Engine: s.Engine, at: at + 1, after: after}
						func() {
							defer func() { assert.Equal(t, recover(), any(died{})) }()
							_ = s.rotate(context.Background())
						}()
						s.boot(t)
						s.recoverPending(t)
						s.check(t, c.outcome())
					})
				})
			}
		}
	}
}
