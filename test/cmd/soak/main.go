// Command soak rotates, kills and meddles at random for a while on 20 containers of
// a private engine, and looks every few seconds whether all is as it must be. It
// runs as root, from the repository, after "make build tools"; its last line is for
// machines.
//
//	soak [-for 1m] [-seed N]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/docker-secret-operator/dso/test/lab"
)

func main() { os.Exit(status()) }

func status() int {
	length := flag.Duration("for", time.Minute, "how long")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "of what happens")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := &soak{began: time.Now(), length: *length, random: rand.New(rand.NewPCG(*seed, 0)), values: map[string]int{}, bad: map[string]bool{}}
	s.say("seed %d", *seed)
	if err := s.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "soak: error:", err)
		return 1
	}
	fmt.Println(s.line())
	if s.violations > 0 || s.rotations == 0 {
		return 1
	}
	return 0
}

type soak struct {
	began  time.Time
	length time.Duration
	random *rand.Rand
	lab    *lab.Lab
	dir    string
	names  []string       // of the containers
	values map[string]int // of each secret, the last one set

	bad        map[string]bool // services whose current version does not work
	storeAway  bool
	unfinished bool // a person's docker dso up did not come to its end

	rotations, kills, engineRestarts, storeFaults, meddlings, checks, violations int
	fresh, aged                                                                  footprint
}

func (s *soak) say(format string, args ...any) {
	fmt.Printf("%6.1fs  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

func (s *soak) line() string {
	return fmt.Sprintf("soak: seconds=%.0f containers=%d rotations=%d agent_kills=%d engine_restarts=%d store_faults=%d meddlings=%d checks=%d violations=%d goroutine_growth=%d fd_growth=%d memory_growth_kb=%d",
		time.Since(s.began).Seconds(), len(s.names), s.rotations, s.kills, s.engineRestarts, s.storeFaults, s.meddlings, s.checks, s.violations,
		s.aged.goroutines-s.fresh.goroutines, s.aged.fds-s.fresh.fds, s.aged.memory-s.fresh.memory)
}

func (s *soak) run(ctx context.Context) (err error) {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	if s.lab, err = lab.Open(ctx, root); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.lab.Close()) }()
	if err := s.bringUp(ctx); err != nil {
		return err
	}
	// In the second half the agent lives on, to see whether it grows.
	half, end := s.began.Add(s.length/2), s.began.Add(s.length)
	for time.Now().Before(end) {
		if err := s.burst(ctx, time.Now().Before(half)); err != nil {
			return err
		}
	}
	if s.aged, err = s.measure(ctx); err != nil {
		return err
	}
	if err := s.lab.StartAgent(ctx); err != nil {
		return err
	}
	if err := s.check(ctx); err != nil {
		return err
	}
	s.fresh, err = s.measure(ctx)
	return err
}

// The services: how many containers of each, and how they are changed over.
var services = []struct {
	name, strategy string
	scale          int
}{
	{"a", "rolling", 3}, {"b", "rolling", 3}, {"c", "rolling", 2}, {"d", "rolling", 2},
	{"e", "restart", 2}, {"f", "restart", 2}, {"g", "restart", 1}, {"h", "restart", 1},
	{"i", "none", 2}, {"j", "none", 2},
}

func (s *soak) bringUp(ctx context.Context) error {
	if err := s.lab.StartAgent(ctx); err != nil {
		return err
	}
	if out, err := s.lab.DSO(ctx, "init"); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	var b strings.Builder
	b.WriteString("services:\n")
	for _, svc := range services {
		variable, scheme, expose := "APP_SECRET", "dso", ""
		switch svc.strategy {
		case "rolling":
			expose = `    expose: ["8080"]` + "\n"
		case "none":
			variable, scheme = "APP_SECRET_FILE", "dsofile"
		}
		_, _ = fmt.Fprintf(&b, `  %s:
    image: %s
    restart: always
    scale: %d
%s    environment: {%s: "%s://%s", APP_EXIT_IF: bad}
    labels: {dso.update.strategy: %s, dso.monitor: 100ms}
`, svc.name, lab.Answerer+lab.CheckedSeldom, svc.scale, expose, variable, scheme, svc.name, svc.strategy)
		if err := s.set(ctx, svc.name, false); err != nil {
			return err
		}
		for i := range svc.scale {
			s.names = append(s.names, fmt.Sprintf("soak-%s-%d", svc.name, i+1))
		}
	}
	var err error
	if s.dir, err = s.lab.Project("soak", b.String()); err != nil {
		return err
	}
	if err := s.up(ctx); err != nil {
		return err
	}
	return s.check(ctx)
}

func (s *soak) set(ctx context.Context, service string, bad bool) error {
	s.values[service]++
	value := fmt.Sprintf("v%d", s.values[service])
	if bad {
		value += " bad"
	}
	s.bad[service] = bad
	out, err := s.lab.DSOIn(ctx, "/", value, "secret", "set", "soak/"+service, "--no-wait")
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func (s *soak) up(ctx context.Context) error {
	out, err := s.lab.DSOIn(ctx, s.dir, "", "up", "-d")
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
