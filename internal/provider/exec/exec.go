package exec

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/provider/program"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// Config says what is started.
type Config struct {
	Program string // absolute path
	Args    []string
	SHA256  string        // hex; empty: not pinned
	Timeout time.Duration // of one answer
	// Env returns the whole environment, as NAME=value. It is asked at each start.
	Env func() ([]string, error)
}

// Provider asks one program.
type Provider struct {
	name    string
	cfg     Config
	changed chan struct{} // holds whether the program has told of a change since

	// turn is taken by whoever uses the fields below.
	turn     chan struct{}
	process  *process
	useless  int       // runs in a row that answered nothing
	last     error     // how the last of them ended
	notAgain time.Time // no start before
	closed   bool
}

var (
	_ provider.Provider = (*Provider)(nil)
	_ provider.Keeper   = (*Provider)(nil)
	_ provider.Watcher  = (*Provider)(nil)
)

// New returns a provider. The program is looked at, and not started yet.
func New(name string, cfg Config) (*Provider, error) {
	f, err := open(cfg)
	if err != nil {
		return nil, fmt.Errorf("provider %s: %w", name, err)
	}
	return &Provider{name: name, cfg: cfg, changed: make(chan struct{}, 1), turn: make(chan struct{}, 1)}, f.Close()
}

// Version implements [provider.Provider].
func (p *Provider) Version(ctx context.Context, path string) (secret.Version, error) {
	a, err := p.ask(ctx, program.Question{Method: "version", Path: path})
	return secret.Version(a.Version), provider.Explain(p.name, path, err)
}

// Get implements [provider.Provider].
func (p *Provider) Get(ctx context.Context, path string, want secret.Version) (secret.Value, secret.Version, error) {
	a, err := p.ask(ctx, program.Question{Method: "get", Path: path, Version: string(want)})
	switch {
	case err != nil:
	case want != "" && a.Version != string(want):
		err = fmt.Errorf("%w: it is of another version", provider.ErrMalformed)
	case a.Value == nil:
		err = fmt.Errorf("%w: it has no value", provider.ErrMalformed)
	case len(a.Value) > provider.MaxValue:
		err = fmt.Errorf("%w: more than %d bytes", provider.ErrTooLarge, provider.MaxValue)
	}
	if err != nil {
		return secret.Value{}, "", provider.Explain(p.name, path, err)
	}
	return secret.NewValue(a.Value), secret.Version(a.Version), nil
}

func (p *Provider) ask(ctx context.Context, q program.Question) (program.Answer, error) {
	proc, err := p.running(ctx)
	if err != nil {
		return program.Answer{}, err
	}
	a, err := proc.ask(ctx, p.cfg.Timeout, q)
	if err == nil && a.Version == "" {
		err = fmt.Errorf("%w: it has no version", provider.ErrMalformed)
	}
	if err != nil {
		return program.Answer{}, err
	}
	return a, nil
}

// The pauses before a program that keeps ending without having answered anything is
// started again. The first runs are for free: it may have been replaced.
const (
	freeStarts = 4
	firstPause = time.Second
	lastPause  = time.Minute
)

// endingError says that the program is not started for a while. It may work later,
// however it ended.
type endingError struct {
	after time.Duration
	last  error
}

func (e *endingError) Error() string {
	return fmt.Sprintf("the program keeps ending, and is started again in %s: %v", e.after, e.last)
}

// RetryAfter is how long that while is.
func (e *endingError) RetryAfter() time.Duration { return e.after }

// running returns the process, started when there is none.
func (p *Provider) running(ctx context.Context) (*process, error) {
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the program: %w", ctx.Err())
	}
	defer func() { <-p.turn }()
	if p.process != nil {
		select {
		case <-p.process.ended:
			p.over(p.process.useful, p.process.err)
		default:
			return p.process, nil
		}
	}
	switch wait := time.Until(p.notAgain); {
	case p.closed:
		return nil, errors.New("the provider is no longer configured")
	case wait > 0:
		return nil, &endingError{max(wait.Round(time.Second), time.Second), p.last}
	}
	proc, err := start(ctx, p.name, p.cfg, p.tell)
	if err != nil {
		p.over(false, err)
		return nil, err
	}
	p.process = proc
	return proc, nil
}

// over notes that a run has ended.
func (p *Provider) over(useful bool, err error) {
	p.process, p.last = nil, err
	if useful {
		p.useless, p.notAgain = 0, time.Time{}
		return
	}
	if p.useless++; p.useless >= freeStarts {
		pause := min(firstPause<<min(p.useless-freeStarts, 10), lastPause)
		p.notAgain = time.Now().Add(pause)
	}
}

// tell notes that the program has told of a change.
func (p *Provider) tell() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// Watch implements [provider.Watcher]: it tells what the program tells, for one caller at
// a time. It starts no program: while none is needed, nothing that it could tell is.
func (p *Provider) Watch(ctx context.Context) (<-chan struct{}, error) {
	return provider.Relay(ctx, p.changed), nil
}

// Keep implements [provider.Keeper]: the program ends with the provider.
func (p *Provider) Keep(ctx context.Context) {
	<-ctx.Done()
	p.Close()
}

// Close ends the program. What is asked later is refused.
func (p *Provider) Close() {
	p.turn <- struct{}{}
	defer func() { <-p.turn }()
	p.closed = true
	if p.process != nil {
		p.process.close(2 * time.Second)
		p.process = nil
	}
}
