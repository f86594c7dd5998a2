package agent

import (
	"context"
	"errors"

	"github.com/docker-secret-operator/dso/internal/api"
	"github.com/docker-secret-operator/dso/internal/engine"
)

// looked asks the engine something for a call: an engine that hangs is said to.
func looked[T any](ctx context.Context, look func(context.Context) (T, error)) (T, error) {
	found, err := engine.Look(ctx, look)
	if errors.Is(err, engine.ErrHangs) {
		err = &api.Error{Err: err, Hint: "docker dso doctor looks at the rest; journalctl -u docker shows what the engine is at"}
	}
	return found, err
}
