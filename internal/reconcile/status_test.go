package reconcile_test

import (
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/hosttest"
	"github.com/docker-secret-operator/dso/internal/reconcile"
)

func TestStatus_PredictsFromTheRotationsThatWere(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		a.up(t, "other", usesDB)
		a.run(t)
		rows, err := a.Status(t.Context())
		assert.NilError(t, err)
		assert.Assert(t, rows[0].Predicted == nil, "there was none yet")
		assert.Assert(t, !rows[0].Given.IsZero())
		_, err = a.Sync(t.Context(), reconcile.Target{Container: "web", Force: true})
		assert.NilError(t, err)
		rows, err = a.Status(t.Context())
		assert.NilError(t, err)
		took := a.Journal.All()[0]
		for _, row := range rows {
			assert.Assert(t, row.Predicted != nil, row.Name)
			want := took.LastUpdate.Sub(took.StartTime).Seconds()
			assert.Assert(t, row.Predicted.Seconds > want-0.1 && row.Predicted.Seconds < want+0.1, "%v, it took %v", row.Predicted, want)
			basis := map[string]string{"web": "this container", "other": "strategy rolling"}[row.Name]
			assert.Equal(t, row.Predicted.Basis, basis)
			assert.Equal(t, row.Predicted.Samples, 1)
		}
	})
}

func TestStatus_SaysWhichRotationGoesOnAndWhatIsPinned(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.badVersion("2")
		a.Secrets.Set("app/db", "one")
		a.up(t, "web", usesDB)
		a.run(t)
		a.set("app/db", "two")
		rows, err := a.Status(t.Context())
		for n := 0; err == nil && rows[0].Rotation == nil && n < 100; n++ {
			time.Sleep(50 * time.Millisecond)
			rows, err = a.Status(t.Context())
		}
		assert.NilError(t, err)
		assert.Assert(t, rows[0].Rotation != nil, "%+v", rows[0])
		assert.Equal(t, rows[0].Rotation.Container, "web")
		assert.Assert(t, rows[0].Rotation.Step != "" && rows[0].Rotation.Age != "")
		settle()
		rows, err = a.Status(t.Context())
		assert.NilError(t, err)
		assert.Assert(t, rows[0].Rotation == nil)
		assert.Assert(t, rows[0].Pinned && rows[0].Pin.Failed["local:app/db"] == "2" && !rows[0].Pin.Since.IsZero(), "%+v", rows[0].Pin)
	})
}

func TestDetail_ShowsEveryReference(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		a.Secrets.Set("app/db", "one")
		a.Secrets.Set("app/tls", "key")
		a.up(t, "web", hosttest.Env("DB=dso://app/db"), hosttest.Env("TLS=dsofile://app/tls"))
		a.run(t)
		d, err := a.Detail(t.Context(), "web")
		assert.NilError(t, err)
		assert.Equal(t, len(d.References), 2)
		assert.Equal(t, d.References[0].Variable, "DB")
		assert.Equal(t, d.References[0].Has, "1")
		assert.Equal(t, d.References[0].File, "")
		assert.Equal(t, d.References[1].File, "/run/secrets/dso/app/tls")
		byID, err := a.Detail(t.Context(), d.ID)
		assert.NilError(t, err)
		assert.Equal(t, byID.Name, "web")
		_, err = a.Detail(t.Context(), "nobody")
		assert.ErrorIs(t, err, reconcile.ErrNoContainer)

		users, err := a.Uses(t.Context(), id("app/tls"))
		assert.NilError(t, err)
		assert.Equal(t, len(users), 1)
		assert.DeepEqual(t, users[0].Variables, []string{"TLS"})
		assert.Equal(t, users[0].Has, "1")
		assert.Assert(t, users[0].UpToDate)
	})
}

func TestQueue_CountsWhatWasHandled(t *testing.T) {
	onHost(t, func(t *testing.T, a *agent) {
		assert.Equal(t, a.Queue().Depth, 0)
		a.Secrets.Set("app/db", "one")
		a.run(t)
		before := a.Queue()
		a.up(t, "web", usesDB)
		after := a.Queue()
		assert.Assert(t, after.Processed > before.Processed && after.Depth == 0 && after.Dropped == 0, "%+v %+v", before, after)
	})
}
