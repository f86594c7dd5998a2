package engine

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// lookDeadline is how long somebody who waits lets the engine say what there is. It tells
// nothing of a container while that is starting, which takes ten seconds when a store does
// not answer.
const lookDeadline = 15 * time.Second

// ErrHangs is wrapped when the engine takes questions and does not answer them.
var ErrHangs = errors.New("the Docker Engine has not answered for " + lookDeadline.String())

// Look asks the engine something for somebody who waits. The error wraps [ErrHangs] when
// that takes too long.
func Look[T any](ctx context.Context, look func(context.Context) (T, error)) (T, error) {
	looking, cancel := context.WithTimeout(ctx, lookDeadline)
	defer cancel()
	found, err := look(looking)
	if err != nil && ctx.Err() == nil && errors.Is(looking.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("%w: %w", ErrHangs, err)
	}
	return found, err
}
