package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/docker-secret-operator/dso/internal/rotation"
)

// failures lets the effect of a step forward fail once, under an agent that
// lives: it turns back or tries again, and comes to the new version in the end.
func (r *real) failures(ctx context.Context, points []rotation.Point) error {
	for _, p := range points {
		if p.Phase != rotation.Forward || p.Moment != rotation.Before || !r.thorough && !struckStep(p.Step) {
			continue
		}
		ok, err := r.attempt(ctx, "an error instead of the effect at "+p.String(), func() error { return r.fail(ctx, p) })
		r.more(&r.disaster, disaster{"failures", "the effect: an error", p.String(), ok})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *real) fail(ctx context.Context, p rotation.Point) error {
	marker, err := r.rotateWith(ctx, p, p.String()+"=fail")
	if err != nil {
		return err
	}
	return r.reaches(ctx, p.Strategy, marker)
}

// rotateWith begins a rotation to a good version by an agent with failpoints.
func (r *real) rotateWith(ctx context.Context, p rotation.Point, failpoints string) (marker string, err error) {
	if err := r.startWith(ctx, failpoints); err != nil {
		return "", err
	}
	marker = r.next()
	r.serves[p.Strategy] = marker
	return marker, r.set(ctx, p.Strategy, marker, false)
}

// reaches waits until the service answers the marker and nothing is wrong.
func (r *real) reaches(ctx context.Context, s rotation.Strategy, marker string) error {
	deadline := time.Now().Add(time.Minute)
	for {
		got, err := r.answer(ctx, s)
		if err == nil && got == marker {
			break
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("%s answers %q, not %q: %w", r.service[s], got, marker, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	wrong, err := r.lab.CheckWithin(ctx, time.Minute, r.places...)
	if err == nil && len(wrong) > 0 {
		err = errors.New(strings.Join(wrong, "; "))
	}
	return err
}

// fullDisk fills the disk of the state when a step has happened and is not recorded
// yet, and makes room again once the agent has said that it cannot record.
func (r *real) fullDisk(ctx context.Context, points []rotation.Point) error {
	if err := r.smallDisk(ctx); err != nil {
		return err
	}
	for _, p := range points {
		if p.Phase != rotation.Forward || !struck(p) {
			continue
		}
		ok, err := r.attempt(ctx, "the disk is full at "+p.String(), func() error { return r.fill(ctx, p) })
		r.more(&r.disaster, disaster{"failures", "the record: the disk is full", p.String(), ok})
		if err != nil {
			return err
		}
	}
	return nil
}

// smallDisk gives the state a disk of its own.
func (r *real) smallDisk(ctx context.Context) error {
	const script = `cd /var/lib/dso && cp -a state kept && mount -t tmpfs -o size=1m,mode=0700 dso-state state && cp -a kept/. state/ && rm -r kept`
	out, err := r.lab.Command(ctx, "sh", "-c", script).CombinedOutput()
	if err != nil {
		return fmt.Errorf("make a small disk: %w: %s", err, out)
	}
	return nil
}

func (r *real) fill(ctx context.Context, p rotation.Point) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	from := len(r.agentLog(0))
	clean := func() error {
		return r.lab.Command(ctx, "rm", "-rf", "/var/lib/dso/state/fill", "/var/lib/dso/state/held").Run()
	}
	defer func() { err = errors.Join(err, clean()) }()
	marker, err := r.rotateWith(ctx, p, p.String()+"=stop")
	if err != nil {
		return err
	}
	if err := r.awaitStopped(ctx); err != nil {
		return err
	}
	// A file that is replaced, by whatever part of the agent, makes no room: all are held.
	const script = "cd /var/lib/dso/state && ln -f rotations.json rotations.json.last && mkdir held && find . -maxdepth 1 -type f -exec ln {} held/ ';' && dd if=/dev/zero of=fill bs=4k"
	out, _ := r.lab.Command(ctx, "sh", "-c", script).CombinedOutput()
	if !strings.Contains(string(out), "No space left on device") {
		return fmt.Errorf("the disk does not get full: %s", out)
	}
	if err := syscall.Kill(r.lab.AgentPID(), syscall.SIGCONT); err != nil {
		return err
	}
	deadline := time.Now().Add(30 * time.Second)
	for !strings.Contains(r.agentLog(from), "no space left on device") {
		if time.Now().After(deadline) {
			return errors.New("the agent does not say that the disk is full")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err := clean(); err != nil {
		return err
	}
	return r.reaches(ctx, p.Strategy, marker)
}
