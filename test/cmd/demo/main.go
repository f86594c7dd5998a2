// Command demo shows the main job of DSO on a private engine: a secret reaches an
// application and is rotated five times under load, with the agent killed in the
// middle of the third rotation. It runs as root, from the repository, after
// "make build tools", and its last line is for machines.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/docker-secret-operator/dso/test/lab"
	"github.com/docker-secret-operator/dso/test/load"
)

const (
	rotations = 5
	killIn    = 3 // the rotation in which the agent dies
	rate      = "500"
)

const project = `
services:
  web:
    image: ` + lab.Answerer + `
    ports: ["8080:8080"]
    environment:
      APP_SECRET: dso://marker
`

func main() { os.Exit(status()) }

func status() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d := &demo{began: time.Now()}
	err := d.run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo: error:", err)
		return 1
	}
	fmt.Printf("demo: rotations=%d agent_kills=%d requests=%d failed=%d wrong_version=%d leftovers=%d first_new_ms=%d\n",
		d.rotated, d.kills, d.result.Requests, d.result.Failed, d.result.WrongVersion, len(d.leftovers), d.firstNew.Milliseconds())
	if d.result.Failed+d.result.WrongVersion+len(d.leftovers) > 0 || d.rotated != rotations {
		return 1
	}
	return 0
}

type demo struct {
	began     time.Time
	lab       *lab.Lab
	dir       string
	load      *lab.Load
	rotated   int
	kills     int
	set       map[string]time.Time // when each marker was stored
	result    *load.Result
	leftovers []string
	firstNew  time.Duration // the longest from "secret set" to the first new answer, without the killed one
}

func (d *demo) say(format string, args ...any) {
	fmt.Printf("%6.2fs  %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

func (d *demo) run(ctx context.Context) (err error) {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	d.set = map[string]time.Time{}
	if d.lab, err = lab.Open(ctx, root); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.lab.Close()) }()
	d.say("a private engine runs (%s)", d.lab.StorageDriver())
	if err := d.bringUp(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, d.agentLog())
	}
	for i := 1; i <= rotations; i++ {
		if err := d.rotate(ctx, i); err != nil {
			return fmt.Errorf("rotation %d: %w\n%s", i, err, d.agentLog())
		}
	}
	return d.takeDown(ctx)
}

func (d *demo) agentLog() string {
	text, _ := os.ReadFile(d.lab.AgentLog())
	return string(text)
}

func (d *demo) bringUp(ctx context.Context) error {
	if err := d.lab.StartAgent(ctx); err != nil {
		return err
	}
	d.say("an agent runs, without a configuration file")
	if out, err := d.lab.DSO(ctx, "init"); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	var err error
	if d.dir, err = d.lab.Project("shop", project); err != nil {
		return err
	}
	if _, err := d.store(ctx, "v0"); err != nil {
		return err
	}
	if out, err := d.lab.DSOIn(ctx, d.dir, "", "up", "-d", "--wait"); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	d.say("docker dso up: the application is healthy behind port 8080")
	if d.load, err = d.lab.StartLoad(ctx, "http://"+d.lab.Address()+":8080/", "-rate", rate); err != nil {
		return err
	}
	d.say("%s requests per second from another network namespace", rate)
	return nil
}

func (d *demo) store(ctx context.Context, marker string) (string, error) {
	d.set[marker] = time.Now()
	return d.lab.DSOIn(ctx, d.dir, marker, "secret", "set", "marker")
}

func (d *demo) rotate(ctx context.Context, i int) error {
	marker := fmt.Sprintf("v%d", i)
	d.say("rotation %d: docker dso secret set marker", i)
	if i == killIn {
		if err := d.rotateAndKill(ctx, marker); err != nil {
			return err
		}
	} else if out, err := d.store(ctx, marker); err != nil {
		return err
	} else {
		d.show(out)
	}
	d.say("rotation %d is done", i)
	d.rotated++
	return d.load.Floor(marker)
}

func (d *demo) show(out string) {
	for line := range strings.Lines(out) {
		fmt.Println("           | " + strings.TrimRight(line, "\n"))
	}
}

// rotateAndKill kills the agent once the journal says that the replacement is
// being waited for, and starts another one.
func (d *demo) rotateAndKill(ctx context.Context, marker string) error {
	done := make(chan error, 1)
	go func() {
		_, err := d.store(ctx, marker)
		done <- err
	}()
	if err := d.awaitJournal(ctx, `"step": "gate"`); err != nil {
		return err
	}
	if err := d.lab.KillAgent(); err != nil {
		return err
	}
	d.kills++
	d.say("the agent was killed with SIGKILL, in the middle of it")
	if err := <-done; err == nil {
		return errors.New("the command line did not notice that its agent died")
	}
	if err := d.lab.StartAgent(ctx); err != nil {
		return err
	}
	d.say("another agent was started and has carried the rotation on")
	out, err := d.lab.DSO(ctx, "status")
	if err != nil {
		return err
	}
	d.show(out)
	return nil
}

func (d *demo) awaitJournal(ctx context.Context, text string) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for {
		data, err := os.ReadFile(d.lab.HostPath("/var/lib/dso/state/rotations.json"))
		if err == nil && strings.Contains(string(data), text) {
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline:
			return fmt.Errorf("the journal never said %s", text)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (d *demo) takeDown(ctx context.Context) error {
	var err error
	if d.result, err = d.load.Stop(); err != nil {
		return err
	}
	for _, a := range d.result.Answers {
		at := d.result.Start.Add(time.Duration(a.FirstAt * float64(time.Millisecond)))
		d.say("answered %s %6d times, first %4d ms after it was stored", a.Body, a.Count, at.Sub(d.set[a.Body]).Milliseconds())
		if a.Body != "v0" && a.Body != fmt.Sprintf("v%d", killIn) {
			d.firstNew = max(d.firstNew, at.Sub(d.set[a.Body]))
		}
	}
	for _, f := range d.result.Errors {
		d.say("failed at %.0f ms: %s", f.StartedAt, f.Error)
	}
	if d.leftovers, err = d.lab.Leftovers(ctx); err != nil {
		return err
	}
	for _, l := range d.leftovers {
		d.say("left over: %s", l)
	}
	if out, err := d.lab.DSOIn(ctx, d.dir, "", "down"); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	for _, pattern := range []string{"/run/dso/private/files/*", "/run/dso/private/env/*"} {
		found, err := filepath.Glob(d.lab.HostPath(pattern))
		if err != nil {
			return err
		}
		d.leftovers = append(d.leftovers, found...)
	}
	d.say("docker dso down")
	return nil
}
