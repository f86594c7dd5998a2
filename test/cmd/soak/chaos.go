package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// settle is how long all that was begun in one burst may take to end.
const settle = 90 * time.Second

// burst does a few random things at random moments, and then looks whether the
// host comes to rest as it must.
func (s *soak) burst(ctx context.Context, mayKill bool) error {
	for range 1 + s.random.IntN(5) {
		if err := s.act(ctx, mayKill); err != nil {
			return err
		}
		select {
		case <-time.After(time.Duration(s.random.IntN(1500)) * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.check(ctx)
}

func (s *soak) act(ctx context.Context, mayKill bool) error {
	switch dice := s.random.IntN(100); {
	case dice < 50:
		svc := services[s.random.IntN(len(services))]
		bad := svc.strategy != "none" && s.random.IntN(5) == 0
		s.say("set %s, bad=%t", svc.name, bad)
		s.rotations += svc.scale
		return s.set(ctx, svc.name, bad)
	case dice < 65 && mayKill:
		s.say("kill the agent")
		s.kills++
		return errors.Join(s.lab.KillAgent(), s.lab.StartAgent(ctx))
	case dice < 70 && mayKill:
		s.say("stop the agent")
		s.kills++
		return errors.Join(s.lab.StopAgent(), s.lab.StartAgent(ctx))
	case dice < 75:
		s.say("stop the engine")
		s.engineRestarts++
		return errors.Join(s.lab.Stop(), s.lab.StartDaemon(ctx))
	case dice < 80:
		s.say("kill the engine")
		s.engineRestarts++
		return errors.Join(s.lab.Kill(), s.lab.StartDaemon(ctx))
	case dice < 85:
		return s.loseStore(ctx)
	}
	return s.meddle(ctx)
}

// loseStore takes the store of the secrets away for a moment, in which anything
// may want to start.
func (s *soak) loseStore(ctx context.Context) error {
	s.say("the store of the secrets is gone for a moment")
	s.storeFaults++
	store := filepath.Join(s.lab.Engine.Dir(), "home", ".dso")
	if err := os.Rename(store, store+".away"); err != nil {
		return err
	}
	s.storeAway = true
	err := s.meddle(ctx)
	s.storeAway = false
	if err != nil {
		return err
	}
	select {
	case <-time.After(time.Duration(s.random.IntN(4000)) * time.Millisecond):
	case <-ctx.Done():
	}
	// A "docker dso" that found none has not made another: only "init" does.
	return os.Rename(store+".away", store)
}

// meddle does what a user may do at any time. Its commands may fail, as a rotation
// may have taken the container away that they name; what counts is how it ends.
func (s *soak) meddle(ctx context.Context) error {
	s.meddlings++
	name := s.names[s.random.IntN(len(s.names))]
	command := [][]string{{"restart", "-t", "1", name}, {"kill", name}, {"rm", "-f", name}, nil}[s.random.IntN(4)]
	if command != nil && command[0] == "rm" {
		// Compose gives the next replica the number after the highest: of another one's
		// name it would make no use again.
		svc := services[s.random.IntN(len(services))]
		command[2] = fmt.Sprintf("soak-%s-%d", svc.name, svc.scale)
		// What a person makes anew begins with the current version: with one that does
		// not work it would rightly never be well.
		switch {
		case s.bad[svc.name] && s.storeAway:
			command = nil
		case s.bad[svc.name]:
			if err := s.set(ctx, svc.name, false); err != nil {
				return err
			}
		}
	}
	s.say("meddle: docker %s", strings.Join(command, " "))
	if command != nil {
		if _, err := s.lab.Docker(ctx, command...); err != nil {
			s.say("as it happens: %v", err)
		}
		if command[0] == "restart" {
			return nil
		}
		if command[0] == "kill" { // the engine takes that for a stop by hand
			_, _ = s.lab.Docker(ctx, "start", name)
			return nil
		}
	}
	if err := s.up(ctx); err != nil {
		s.say("as it happens: %v", err)
		s.unfinished = true
	}
	return nil
}

func (s *soak) check(ctx context.Context) error {
	s.checks++
	if s.unfinished { // whoever removed a container and could not make it again tries once more
		for _, svc := range services {
			if s.bad[svc.name] {
				if err := s.set(ctx, svc.name, false); err != nil {
					return err
				}
			}
		}
		if err := s.up(ctx); err != nil {
			s.say("as it happens: %v", err)
		}
		s.unfinished = false
	}
	wrong, err := s.lab.CheckWithin(ctx, settle, s.names...)
	if err != nil {
		return err
	}
	for _, w := range wrong {
		s.violations++
		s.say("VIOLATION: %s", w)
	}
	if len(wrong) == 0 {
		s.say("all is well")
		return nil
	}
	// What is missing by now would be counted again and again.
	if err := s.up(ctx); err != nil {
		s.say("%v", err)
	}
	return nil
}
