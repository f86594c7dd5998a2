package aws

import (
	"context"
	"errors"
	"sync"

	"github.com/docker-secret-operator/dso/internal/provider"
)

// batch puts questions together that come while others are under way. None waits for more to
// come: the first ones are asked at once, each alone, and what has come in the meantime is asked
// together when one of them is answered.
type batch[T any] struct {
	most     int // names in one call
	alone    func(ctx context.Context, name string) (T, error)
	together func(ctx context.Context, names []string) (map[string]T, error)

	mu      sync.Mutex
	calls   int // under way
	waiting []*question[T]
	denied  bool // whoever we are may ask for one only
}

// besides is how many calls may be under way before questions wait: with one, a call that hangs
// would hold up all others for as long.
const besides = 2

// question is one of those that wait.
type question[T any] struct {
	ctx      context.Context
	name     string
	answered chan struct{} // closed when the rest is set
	value    T
	err      error
}

// ask returns what the store has under a name.
func (b *batch[T]) ask(ctx context.Context, name string) (T, error) {
	b.mu.Lock()
	if b.calls < besides || b.denied {
		b.calls++
		b.mu.Unlock()
		defer b.done()
		return b.alone(ctx, name)
	}
	q := &question[T]{ctx: ctx, name: name, answered: make(chan struct{})}
	b.waiting = append(b.waiting, q)
	b.mu.Unlock()
	select {
	case <-q.answered:
		return q.value, q.err
	case <-ctx.Done():
		var none T
		return none, failed(ctx, ctx.Err())
	}
}

// done ends a call, and begins one for what waits.
func (b *batch[T]) done() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls--
	var next []*question[T]
	for len(b.waiting) > 0 && len(next) < b.most {
		if q := b.waiting[0]; q.ctx.Err() == nil {
			next = append(next, q)
		}
		b.waiting = b.waiting[1:]
	}
	if len(next) == 0 {
		return
	}
	b.calls++
	go func() {
		defer b.done()
		b.answer(next)
	}()
}

// answer asks for several together, and alone for what that has no answer to: the store says of
// one alone what is wrong with it.
func (b *batch[T]) answer(questions []*question[T]) {
	var values map[string]T
	var err error
	if len(questions) > 1 {
		ctx, cancel := anyOf(questions)
		values, err = b.together(ctx, names(questions))
		cancel()
	}
	if errors.Is(err, provider.ErrDenied) {
		b.mu.Lock()
		b.denied = true
		b.mu.Unlock()
	}
	if ofTheBatch(err) {
		err = nil
	}
	var all sync.WaitGroup
	for _, q := range questions {
		all.Go(func() {
			defer close(q.answered)
			value, ok := values[q.name]
			switch {
			case err != nil:
				q.err = err
			case ok:
				q.value = value
			default:
				q.value, q.err = b.alone(q.ctx, q.name)
			}
		})
	}
	all.Wait()
}

// ofTheBatch says that an error may come of asking for several: one of them may not be read,
// or all together are too large, both of which are permanent.
func ofTheBatch(err error) bool {
	if errors.Is(err, provider.ErrCredential) {
		return false
	}
	for _, e := range []error{provider.ErrMalformed, provider.ErrNotFound, provider.ErrPermanent} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// names are those that are asked for, each once.
func names[T any](questions []*question[T]) []string {
	var all []string
	seen := map[string]bool{}
	for _, q := range questions {
		if !seen[q.name] {
			seen[q.name], all = true, append(all, q.name)
		}
	}
	return all
}

// anyOf ends when nobody waits for an answer any more.
func anyOf[T any](questions []*question[T]) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(questions[0].ctx))
	left := int64(len(questions))
	var mu sync.Mutex
	for _, q := range questions {
		context.AfterFunc(q.ctx, func() {
			mu.Lock()
			defer mu.Unlock()
			if left--; left == 0 {
				cancel()
			}
		})
	}
	return ctx, cancel
}
