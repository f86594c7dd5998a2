package providertest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"gotest.tools/v3/assert"

	"github.com/docker-secret-operator/dso/internal/provider"
)

// RunWatch runs the part of the suite that is about a provider.Watcher.
func RunWatch(t *testing.T, open New, opts Options) {
	if opts.Path == "" {
		opts.Path = "app/x"
	}
	t.Run("Watch_TellsOfEachChange", func(t *testing.T) {
		p, put := open(t)
		w, ok := p.(provider.Watcher)
		assert.Assert(t, ok, "%T is no provider.Watcher", p)
		put(opts.Path, []byte("value"))
		_, _, err := get(t, p, "", opts) // what is started by a question is started
		assert.NilError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		changed, err := w.Watch(ctx)
		assert.NilError(t, err)
		for i := range 3 {
			want := put(opts.Path, []byte(fmt.Sprint("value ", i)))
			select {
			case _, ok := <-changed:
				assert.Assert(t, ok, "the watch has ended")
			case <-time.After(30 * time.Second):
				t.Fatal("the change is not told")
			}
			v, err := p.Version(t.Context(), opts.Path)
			assert.NilError(t, err)
			assert.Equal(t, v, want)
		}
		cancel()
		for range changed { // it ends
		}
	})
}
