package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker-secret-operator/dso/internal/api"
)

// lookDeadline is how long a call waits for the engine. It tells nothing of a container
// while that is starting, which takes ten seconds when a store does not answer.
const lookDeadline = 15 * time.Second

// looked asks the engine something for a call: an engine that hangs is said to.
func looked[T any](ctx context.Context, look func(context.Context) (T, error)) (T, error) {
	looking, cancel := context.WithTimeout(ctx, lookDeadline)
	defer cancel()
	found, err := look(looking)
	if err != nil && ctx.Err() == nil && errors.Is(looking.Err(), context.DeadlineExceeded) {
		err = &api.Error{
			Err:  fmt.Errorf("the Docker Engine has not answered for %s: %w", lookDeadline, err),
			Hint: "docker dso doctor looks at the rest; journalctl -u docker shows what the engine is at",
		}
	}
	return found, err
}
