package reconcile_test

import (
	"sync/atomic"
	"testing"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/reconcile"
	"github.com/docker-secret-operator/dso/internal/secret"
	"github.com/docker-secret-operator/dso/internal/target"
)

// What runs goes on, whatever dso.yaml has come to say: a rotation would end in a start that
// is refused, and that says nothing about the version.
func TestRefused_AContainerThatWouldNotBeStartedAgainIsKeptAndTold(t *testing.T) {
	const why = "kept as it is, and a start of it would be refused: "
	label := hosttest.Label("dso.secrets", "db")
	db := target.Rule{Name: "db", References: []target.Reference{{Variable: "DB", Ref: "dso://local/app/db"}}}
	for name, tc := range map[string]struct {
		opts   []hosttest.Option
		rules  target.Rules // while it is started
		strict bool         // from then on
		says   string
	}{
		"policy strict does not let it read the secret": {
			opts: []hosttest.Option{hosttest.Env("DB=dso://app/db")}, strict: true,
			says: why + "policy strict: web may not read dso://app/db for DB: secret local:app/db is not of its own project, and no target in dso.yaml gives it to the container",
		},
		"policy strict gives nothing for a label": {
			opts: []hosttest.Option{label}, rules: target.Rules{Rules: []target.Rule{db}}, strict: true,
			says: why + "label dso.secrets names db, which it is not given: ",
		},
		"the secret of its label has left dso.yaml": {
			opts: []hosttest.Option{label, hosttest.Env("KEY=dso://app/db")}, rules: target.Rules{Rules: []target.Rule{db}},
			says: why + "label dso.secrets names db, which it is not given: ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			onHost(t, func(t *testing.T, a *agent) {
				var rules atomic.Pointer[target.Rules]
				rules.Store(&tc.rules)
				a.Host.Engine.Targets = func(c target.Container) target.Given { return rules.Load().For(c) }
				a.Secrets.Set("app/db", "one")
				before := a.up(t, "web", tc.opts...)
				a.run(t)

				now := target.Rules{Strict: tc.strict}
				if tc.strict {
					now.Rules = tc.rules.Rules
				}
				rules.Store(&now)
				a.Strict.Store(tc.strict)
				settle() // what is being compared just now knows the rules from before
				a.set("app/db", "two")
				settle()
				for _, force := range []bool{false, true} {
					results, err := a.Sync(t.Context(), reconcile.Target{Container: "web", Force: force})
					assert.NilError(t, err)
					contains(t, results[0].Error, tc.says)
				}
				rows, err := a.Status(t.Context())
				assert.NilError(t, err)
				contains(t, rows[0].Error, tc.says)
				assert.Assert(t, !rows[0].UpToDate && !rows[0].Pinned, "%+v", rows[0])
				assert.Equal(t, len(a.Journal.All()), 0)
				assert.Equal(t, a.Container(t, "web").State.StartedAt, before.State.StartedAt)

				// Given again, it changes by itself: nothing is remembered against the version.
				rules.Store(&target.Rules{Rules: []target.Rule{db}})
				a.Strict.Store(false)
				settle()
				_, err = a.Sync(t.Context(), reconcile.Target{Container: "web"})
				assert.NilError(t, err)
				assert.Equal(t, a.has(t, "web", "app/db"), secret.Version("2"))
			})
		})
	}
}
