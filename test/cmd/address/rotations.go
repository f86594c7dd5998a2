package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/docker-secret-operator/dso/test/load"
)

// rotateUnderLoad rotates as often as asked, and on until there were enough requests.
func (b *bench) rotateUnderLoad(ctx context.Context) error {
	if err := b.startClients(ctx); err != nil {
		return err
	}
	b.say("%d clients send %d requests per second each", len(b.clients), b.rate)
	begun := time.Now()
	enough := func() bool {
		sent := int(time.Since(begun).Seconds() * float64(b.rate*len(b.clients)))
		return b.rotated >= b.rotations && sent > b.requests+b.requests/50
	}
	for !enough() {
		n := b.rotated + 1
		killed := b.kills > 0 && n%(max(b.rotations/b.kills, 1)) == 0 && n <= b.rotations
		if err := b.rotate(ctx, killed); err != nil {
			return fmt.Errorf("rotation %d: %w", n, err)
		}
		b.rotated = n
		if n%10 == 0 {
			b.say("%d rotations", n)
		}
	}
	if err := b.stopClients(); err != nil {
		return err
	}
	b.loaded, b.switches = b.switches, switches{}
	for range restingRotations {
		if err := b.rotate(ctx, false); err != nil {
			return fmt.Errorf("rotation without clients: %w", err)
		}
	}
	return nil
}

// restingRotations are those whose switch is timed while nobody else wants the processors.
// Under load, a machine that is small for its clients is timed.
const restingRotations = 7

func (b *bench) rotate(ctx context.Context, killed bool) error {
	if killed {
		if err := b.rotateAndKill(ctx); err != nil {
			return err
		}
	} else if out, err := b.store(ctx); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	} else if !strings.Contains(out, "rotated") {
		return fmt.Errorf("no rotation: %s", out)
	}
	if err := b.timeSwitch(); err != nil {
		return err
	}
	for _, c := range b.clients {
		if err := c.load.Floor(b.marker()); err != nil {
			return err
		}
	}
	return nil
}

// rotateAndKill kills the agent once the replacement exists, each time at another
// moment from then on, and starts another one.
func (b *bench) rotateAndKill(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		_, _ = b.store(ctx) // the command line says that its agent died
		close(done)
	}()
	steps := []string{"start", "gate", "cut-over", "watch", "stop"} // those that take a while
	n := b.rotated / max(b.rotations/b.kills, 1) % len(steps)
	step := steps[n]
	reached := func(journal string) bool {
		return slices.ContainsFunc(steps[n:], func(s string) bool { return strings.Contains(journal, `"step": "`+s+`"`) })
	}
	if err := b.await(ctx, reached); err != nil {
		return fmt.Errorf("step %s: %w", step, err)
	}
	if err := b.lab.KillAgent(); err != nil {
		return err
	}
	<-done
	if err := b.lab.StartAgent(ctx); err != nil {
		return err
	}
	b.say("the agent was killed at %s; the next one has carried the rotation on", step)
	return b.await(ctx, func(j string) bool { return !strings.Contains(j, `"in_progress"`) })
}

func (b *bench) await(ctx context.Context, is func(journal string) bool) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for {
		data, err := os.ReadFile(b.lab.HostPath("/var/lib/dso/state/rotations.json"))
		if err == nil && is(string(data)) {
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline:
			return errors.New("the journal never says it")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// switches are what changes of the way took, from the agent's decision to their effect.
type switches struct{ front, lane []time.Duration }

// timeSwitch takes the time from the agent's decision, before it has written anything, to the
// moment at which the kernel has it: in the network of the front, and for the fast lane in that
// of the host.
func (b *bench) timeSwitch() error {
	text, err := os.ReadFile(b.lab.AgentLog())
	if err != nil {
		return err
	}
	var decided time.Time
	for line := range strings.Lines(string(text)) {
		var l struct {
			Msg     string    `json:"msg"`
			Decided time.Time `json:"decided"`
		}
		if err := json.Unmarshal([]byte(line), &l); err == nil && l.Msg == "front switched" {
			decided = l.Decided
		}
	}
	if !decided.After(b.decided) { // the agent was killed before it could say so
		return nil
	}
	b.decided = decided
	if at, ok := b.ofFront.after(decided); ok {
		b.switches.front = append(b.switches.front, at.Sub(decided))
	}
	if at, ok := b.ofHost.after(decided); ok {
		b.switches.lane = append(b.switches.lane, at.Sub(decided))
	}
	return nil
}

func (b *bench) stopClients() error {
	for _, c := range b.clients {
		r, err := c.load.Stop()
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		b.sent += r.Requests
		b.failed += r.Failed + r.WrongVersion
		b.say("%-44s %6d requests, %d failed, %d wrong, p99 %.1f ms, longest gap %.0f ms", c.name, r.Requests, r.Failed, r.WrongVersion, r.P99MS, r.GapMS)
		b.show(r)
	}
	return nil
}

func (b *bench) show(r *load.Result) {
	for _, f := range r.Errors {
		b.say("    failed at %s: %s", r.Start.Add(time.Duration(f.StartedAt*float64(time.Millisecond))).UTC().Format("15:04:05.000"), f.Error)
	}
}
