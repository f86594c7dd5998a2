package program

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/docker-secret-operator/dso/internal/provider"
	"github.com/docker-secret-operator/dso/internal/secret"
)

// atOnce bounds how many questions are worked on at the same time.
const atOnce = 16

// Serve answers the questions on in from the store, until they end. What is being
// answered then is given up. A store that is a provider.Watcher is watched.
func Serve(ctx context.Context, store provider.Provider, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	s := &server{store: store, out: json.NewEncoder(out)}
	free := make(chan struct{}, atOnce)
	var working sync.WaitGroup
	defer working.Wait()
	defer cancel()
	w, watches := store.(provider.Watcher)
	for r := bufio.NewReader(in); ; {
		line, err := ReadLine(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a question: %w", err)
		}
		var q Question
		if json.Unmarshal(line, &q) != nil || q.ID == 0 {
			return errors.New("a line is not a question of the protocol")
		}
		watch := watches && q.Method == "hello" && q.Watch
		watches = watches && !watch
		free <- struct{}{}
		working.Go(func() {
			s.say(s.answer(ctx, q))
			<-free
			if watch {
				s.watch(ctx, w)
			}
		})
		if err := s.failed(); err != nil {
			return fmt.Errorf("write an answer: %w", err)
		}
	}
}

type server struct {
	store provider.Provider

	mu  sync.Mutex
	out *json.Encoder
	err error
}

func (s *server) answer(ctx context.Context, q Question) Answer {
	a := Answer{ID: q.ID}
	var v secret.Version
	var value secret.Value
	var err error
	switch q.Method {
	case "hello":
		a.Protocol = Protocol
		return a
	case "version":
		v, err = s.store.Version(ctx, q.Path)
	case "get":
		value, v, err = s.store.Get(ctx, q.Path, secret.Version(q.Version))
	default:
		err = provider.ErrPermanent
	}
	if err != nil {
		a.Error = problemOf(err)
		return a
	}
	a.Version = string(v)
	if q.Method == "get" {
		a.Value = append([]byte{}, value.Reveal()...) // nil would be none
	}
	return a
}

// watchAgain is the pause before something that could not be watched is tried again.
const watchAgain = 5 * time.Second

// watch tells of changes until ctx ends.
func (s *server) watch(ctx context.Context, w provider.Watcher) {
	for ctx.Err() == nil {
		changed, err := w.Watch(ctx)
		if err != nil {
			select {
			case <-time.After(watchAgain):
			case <-ctx.Done():
			}
			continue
		}
		s.say(Answer{Event: Changed}) // for what happened before the watch stood
		for range changed {
			s.say(Answer{Event: Changed})
		}
	}
}

func (s *server) say(a Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = errors.Join(s.err, s.out.Encode(a))
}

func (s *server) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
